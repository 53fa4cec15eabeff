"""No key shows up where people or machines read, whatever a resolver does with it."""

import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from canary import Canary, watching
from faulty_resolvers import FAULTS, SECRET, as_async
from key_stores import KeyStores, key_stores_fixture
from resolving import Hook, hook_fixture
from signing_in import configured, emu_fixture

from lightspeed_azure.config import configuration_from_mapping
from lightspeed_azure.config.vaults import VaultConfiguration
from lightspeed_azure.emulators import Fault
from lightspeed_azure.keys import Answer, Failure, get_api_key, resolve_credential
from lightspeed_azure.keys.dotenv_file import DotenvFile
from lightspeed_azure.keys.vault import VaultResolver

__all__ = ["emu_fixture", "hook_fixture", "key_stores_fixture"]


def pickled(canary: Canary, **things: Any) -> None:
    """Add what somebody gets who pickles a thing, or tries to."""
    for name, thing in things.items():
        try:
            canary.texts[f"pickled {name}"] = repr(pickle.dumps(thing))
        except Exception as error:  # noqa: BLE001 - not to be pickled is good, too
            canary.read_error(f"pickling {name}", error)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_faults_of_resolvers(hook: Hook, kind: str) -> None:
    """Errors, their locals, the log, the status: none holds what the resolver had in its hands."""
    with watching() as canary:
        canary.watch(key=SECRET, other="sk-another-invented-key")
        for resolver in FAULTS:
            before = as_async(resolver) if kind == "async" else resolver
            with hook.registered(before, name="mine", on_error="fail") as registration:
                with pytest.raises(Exception) as caught:  # noqa: PT011 - each kind
                    resolve_credential("openai", "openai_api_key")
                name = resolver.__name__
                canary.read_error(name, caught.value)
                canary.texts[f"pickled {name}"] = repr(pickle.dumps(caught.value))
                canary.read(**{f"status {name}": registration.status()})
        good = Answer(SECRET)
        with hook.registered(lambda _: good, ttl=60) as registration:
            found = resolve_credential("openai", "openai_api_key")
            assert found is not None
            assert found.get_secret_value() == SECRET
            canary.read(
                found=found,
                answer=good,
                failure=Failure(ValueError("x")),
                registration=registration,
                fields=vars(registration),
                registry=vars(hook.registry),
            )
            pickled(canary, answer=good, registration=registration, registry=hook.registry)


def test_the_environment_and_dotenv(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the key lies without resolvers, and what is no key there."""
    with watching() as canary:
        canary.watch(key=SECRET, wrong="sk-wrong-and-invented")
        Path(".env").write_text(f"OPENAI_API_KEY={SECRET}\nthis is = no 'statement {SECRET}\n")
        found = get_api_key("openai")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-invented\nX-Evil: 1")
        with pytest.raises(ValueError, match="OPENAI_API_KEY: holds") as caught:
            get_api_key("openai")
        canary.read_error("line break", caught.value)
        Path(".env").write_bytes(b"\xff" + SECRET.encode())
        file = DotenvFile()
        with pytest.raises(ValueError, match="not text") as unread:
            file.get("OPENAI_API_KEY")
        canary.read_error("not text", unread.value)
        canary.read(found=found, file=file)
        Path(".env").unlink()
        with hook.registered(lambda _: 1 / 0):
            resolve_credential("openai-2", "openai_api_key")
        until = time.monotonic() + 5
        while "ZeroDivisionError" not in caplog.text:  # logged after the caller is served
            assert time.monotonic() < until
            time.sleep(0.001)


def test_vault_and_key_vault(hook: Hook, emu: KeyStores, tmp_path: Path) -> None:
    """Keys, tokens and what signs in, through every answer that the two services give."""
    jwt = tmp_path / "jwt"
    jwt.write_text("jwt-of-the-p0d")
    emu.vault.service_accounts = {"jwt-of-the-p0d": "lightspeed"}
    secret = emu.entra.application.client_secret
    with watching() as canary:
        token = emu.vault.token.get_secret_value()
        canary.watch(key=SECRET, token=token, jwt="jwt-of-the-p0d")
        canary.watch(client_secret=secret.get_secret_value())
        emu.vault.write("openai", openai_api_key=SECRET)
        emu.key_vault.write("watsonx-watsonx-api-key", SECRET)
        options = {"url": emu.vault.endpoint, "ca_bundle": str(emu.ca_bundle)}
        key_vault = {
            "url": emu.key_vault.endpoint,
            "ca_bundle": str(emu.ca_bundle),
            "verify_challenge_resource": False,
        }
        login = {"role": "lightspeed", "token_path": str(jwt)}
        blocks: list[dict[str, Any]] = [
            {"name": "one", "use": "vault", "options": options | {"token": token}},
            {"name": "two", "use": "vault", "options": options | {"kubernetes": login}},
            {"name": "three", "use": "keyvault", "options": key_vault},
        ]
        for block in blocks:
            block |= {"on_error": "fail", "ttl": 0, "failures": 99}
        loaded = configuration_from_mapping({"credential_resolvers": blocks}).credential_resolvers
        identity = configured(emu, client_secret=secret, deadline=5)
        with hook.registry.configured(loaded, [identity]):
            asked = {"one": "openai", "two": "openai", "three": "watsonx"}
            for name, provider in asked.items():
                ask = (provider, f"{provider}_api_key")
                found = resolve_credential(*ask, resolver=name)
                assert found is not None
                assert found.get_secret_value() == SECRET
                for fault in (
                    Fault.status(403),
                    Fault.status(500, body=f'{{"errors": ["{SECRET}"]}}'),
                    Fault.not_json(),
                    Fault.truncated(),
                    Fault.reset(),
                ):
                    service: Any = emu.key_vault if name == "three" else emu.vault
                    service.fault(fault, times=2)
                    with pytest.raises(Exception) as caught:  # noqa: PT011 - each kind
                        resolve_credential(*ask, resolver=name)
                    service.clear_faults()
                    canary.read_error(f"{name} {fault.kind} {fault.code}", caught.value)
                    hook.scheduler.advance(60)
            canary.read(status=hook.registry.status(), registry=vars(hook.registry))
        resolver = VaultResolver(VaultConfiguration.from_object({**options, "token": token}))
        canary.read(
            blocks=loaded,
            dumps=[block.model_dump() for block in loaded],
            options=[block.options for block in loaded],
            resolver=resolver,
            vault=emu.vault,
            key_vault=emu.key_vault,
        )
        pickled(canary, resolver=resolver, registry=hook.registry)
