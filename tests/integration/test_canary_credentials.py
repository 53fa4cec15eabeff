"""No credential shows up where people or machines read, whether it signs in or not."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from canary import Canary
from entra_material import Certificate, assertion
from identities import Place
from integration_support import ask, ask_streaming
from signing_in import certified, federated

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIdConfiguration,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.config import configuration_from_mapping, load_configuration
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import CredentialRejectedError, InvalidConfigurationError, TokenError
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.source import Attempt

pytestmark = pytest.mark.integration

PASSWORD = "pa55-of-the-c3rtificate"
WRONG = "wr0ng-but-a-s3cret"


@pytest.fixture
def place(emulators: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place to configure a service in."""
    return Place(emulators, tmp_path, monkeypatch)


def watch_certificate(canary: Canary, certificate: Certificate) -> None:
    """Look for the lines of the private key, as text and in the bytes of a PFX file."""
    lines = certificate.pem().decode().splitlines()
    canary.watch(key_begin=lines[1], key_middle=lines[9])
    canary.watch(key_number=str(certificate.key.private_numbers().d))  # type: ignore[union-attr]


def secret_file(place: Place, canary: Canary, *, good: bool) -> str:
    """A secret in a file."""
    canary.watch(secret=place.secret(), wrong=WRONG)
    return f"  client_secret_path: {place.file('s', place.secret() if good else WRONG)}\n"


def certificate(place: Place, canary: Canary, *, good: bool) -> str:
    """A certificate whose key has a password."""
    used = Certificate()
    certified(place.emu, used if good else Certificate(1))
    watch_certificate(canary, used)
    content = used.pem(PASSWORD)
    canary.watch(password=PASSWORD, encrypted=content.decode().splitlines()[5])
    place.set(COMPANY_PASSWORD=PASSWORD)
    return (
        f"  certificate_path: {place.file('c.pem', content)}\n"
        "  certificate_password: ${env.COMPANY_PASSWORD}\n  send_certificate_chain: true\n"
    )


def pfx(place: Place, canary: Canary, *, good: bool) -> str:
    """The same in PFX, with the wrong password instead of the wrong certificate."""
    used = Certificate()
    certified(place.emu, used)
    watch_certificate(canary, used)
    canary.watch(password=PASSWORD, wrong=WRONG)
    place.set(COMPANY_PASSWORD=PASSWORD if good else WRONG)
    return (
        f"  certificate_path: {place.file('c.pfx', used.pfx(PASSWORD))}\n"
        "  certificate_password: ${env.COMPANY_PASSWORD}\n"
    )


def federated_assertion(place: Place, canary: Canary, *, good: bool) -> str:
    """An assertion of a cluster's."""
    federated(place.emu)
    token = assertion(sub="somebody else") if not good else assertion()
    canary.watch(assertion=token, claims=token.split(".")[1], signature=token.split(".")[2])
    return f"  federated_token_file: {place.file('token', token)}\n"


type Credential = Callable[..., str]
CREDENTIALS: list[Credential] = [secret_file, certificate, pfx, federated_assertion]


def written(place: Place, block: str) -> Path:
    """Return the operator's file."""
    return place.file("lightspeed-stack.yaml", f"azure_entra_id:{place.application(block)}")


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_a_credential_that_signs_in(
    place: Place, stack_config: LlamaStackConfiguration, canary: Canary, credential: Credential
) -> None:
    """Questions are answered and tokens renewed; then everything in sight is read."""
    file = written(place, credential(place, canary, good=True))
    loaded = load_configuration(file)
    manager = AzureEntraIDManager.isolated(loaded.azure_entra_id)
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(stack_config)
    await ask(holder.get_client(), "hello")
    canary.watch(first=manager.access_token.get_secret_value())
    place.emu.azure.revoke_all_issued_before_now()
    await ask_streaming(holder.get_client(), "hello")
    canary.watch(second=manager.access_token.get_secret_value())
    await holder.close()
    manager.close()
    (config,) = loaded.azure_entra_id
    source = credential_source(config)
    source(Attempt(timeout=10, sent_at=0))
    canary.read(
        loaded=loaded,
        config=config,
        dump=config.model_dump(),
        json=config.model_dump_json(),
        manager=manager,
        status=manager.status(),
        source=source,
        source_fields=vars(source),
        described=source.describe(),
        fingerprint=source.fingerprint(),
    )


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_a_credential_that_is_refused(
    place: Place, canary: Canary, credential: Credential
) -> None:
    """The error, its pickle and our frames' locals hold nothing of it."""
    file = written(place, credential(place, canary, good=False))
    try:
        (config,) = load_configuration(file).azure_entra_id
    except InvalidConfigurationError as error:
        assert credential is pfx  # a wrong password is found out before anybody is asked
        canary.read_error("loading", error)
        text = file.read_text().replace("${env.COMPANY_PASSWORD}", WRONG)
        block = dict(line.strip().split(": ", 1) for line in text.splitlines()[1:])
        (config,) = configuration_from_mapping({"azure_entra_id": block}).azure_entra_id
    manager = AzureEntraIDManager.isolated(config)
    with pytest.raises(CredentialRejectedError) as caught:
        await manager.aget_token()
    manager.close()
    source = credential_source(config)
    with pytest.raises((TokenError, InvalidConfigurationError)) as direct:
        source(Attempt(timeout=10, sent_at=0))
    canary.read_error("from the manager", caught.value)
    canary.read_error("from the source", direct.value)
    canary.read(source=source, source_fields=vars(source), status=manager.status())
    canary.texts["pickled"] = repr(pickle.dumps((caught.value, direct.value, manager.status())))


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_a_file_that_breaks(place: Place, canary: Canary, credential: Credential) -> None:
    """The last good value stays in use, and the warning about the file shows none of it."""
    text = credential(place, canary, good=True)
    (config,) = load_configuration(written(place, text)).azure_entra_id
    source = credential_source(config)
    source(Attempt(timeout=10, sent_at=0))
    (file,) = (each for each in place.folder.iterdir() if each.suffix != ".yaml")
    content = file.read_bytes()
    for name, broken in {"half": content[: len(content) // 2], "empty": b"", "nul": b"\0"}.items():
        file.write_bytes(broken)
        canary.watch(
            **(
                {"half_secret": broken.decode()}
                if credential is secret_file and name == "half"
                else {}
            )
        )
        source(Attempt(timeout=10, sent_at=0))
        fresh = credential_source(config)
        with pytest.raises((TokenError, InvalidConfigurationError)) as caught:
            fresh(Attempt(timeout=10, sent_at=0))
        canary.read_error(name, caught.value)


@pytest.mark.parametrize("wrong", [{"prefetch": "perhaps"}, {"scoop": WRONG}, {"tenant_id": "a b"}])
def test_a_configuration_that_is_refused(
    place: Place, canary: Canary, wrong: dict[str, str]
) -> None:
    """No frame of ours on the way of the error shows the secrets that stand beside the mistake."""
    canary.watch(secret=place.secret(), password=PASSWORD, wrong=WRONG)
    place.set(AZURE_CLIENT_SECRET=place.secret(), COMPANY_PASSWORD=PASSWORD)
    block = {
        "tenant_id": "t",
        "client_id": "c",
        "client_secret": place.secret(),
        "certificate_password": PASSWORD,
        **wrong,
    }
    lines = "".join(f"  {key}: {value}\n" for key, value in block.items())
    file = place.file("lightspeed-stack.yaml", f"azure_entra_id:\n{lines}")
    attempts: dict[str, Callable[[], object]] = {
        "keywords": lambda: AzureEntraIdConfiguration(environ=None, **block),
        "object": lambda: AzureEntraIdConfiguration.from_object(block),
        "mapping": lambda: configuration_from_mapping({"azure_entra_id": block}),
        "several": lambda: configuration_from_mapping({"azure_entra_id": [block, block]}),
        "file": lambda: load_configuration(file),
        "environment": lambda: load_configuration(file, environ=dict(os.environ)),
        "no file": lambda: load_configuration(place.folder / "none", environ=dict(os.environ)),
    }
    credential_source(AzureEntraIdConfiguration(managed_identity="system"))  # is logged
    for name, attempt in attempts.items():
        with pytest.raises(InvalidConfigurationError) as caught:
            attempt()
        canary.read_error(name, caught.value)
        canary.texts[f"pickled {name}"] = repr(pickle.dumps(caught.value))
