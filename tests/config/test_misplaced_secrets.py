"""A secret in the place of a name or a path is shown nowhere; a name that is one is still shown."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightspeed_azure import AzureEntraIDManager, InvalidConfigurationError, KeyUnavailableError
from lightspeed_azure.config import configuration_from_mapping, load_configuration
from lightspeed_azure.errors import LightspeedAzureError
from lightspeed_azure.keys import configured, resolve_credential
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.secrets import SecretFile

SECRET = "sk-live-4242424242424242abcdef"
WITH_SLASHES = "/9j4AAQSk/ZJRgABAQ4242Exif=="
LIKE_A_NAME = "AbCdEfGh0123456789secretvalue"

IDENTITY = {"tenant_id": "t", "client_id": "c"}
JWT = {"kind": "jwt", "issuer": "https://i.example", "audience": "a"}
PROVIDER = {"provider_id": "mine", "field": "vllm_api_token"}
VAULT = {"url": "https://v.example", "token": "t"}


def text_of(error: BaseException) -> str:
    """Return all that an error says."""
    return f"{error} {error!r} {error.__cause__} {error.__context__} {vars(error)}"


@pytest.mark.parametrize("secret", [SECRET, WITH_SLASHES, LIKE_A_NAME])
@pytest.mark.parametrize(
    "blocks",
    [
        *(
            {"azure_entra_id": {**IDENTITY, key: "<secret>"}}
            for key in ("client_secret_path", "certificate_path", "federated_token_file", "credential")
        ),
        {"azure_entra_id": {**IDENTITY, "client_secret": "x", "ca_bundle": "<secret>"}},
        {"azure_entra_id": {**IDENTITY, "client_secret": "x", "<secret>": "y"}},
        {"azure_entra_id": {"managed_identity": {"<secret>": "y"}}},
        {"llama_stack": {"use_as_library_client": True, "library_client_config_path": "<secret>"}},
        {"llama_stack": {"url": "https://x", "ca_bundle": "<secret>"}},
        {"<secret>": {"azure_entra_id": {}}},
        *(
            {"provider_credentials": [{**PROVIDER, "source": {key: "<secret>"}}]}
            for key in ("file", "env", "google", "entra")
        ),
        {"provider_credentials": [{**PROVIDER, "source": {"entra": {"identity": "<secret>"}}}]},
        {"provider_credentials": [{**PROVIDER, "field": "<secret>", "source": {"value": "x"}}]},
        {"credential_resolvers": [{"name": "<secret>"}]},
        {"credential_resolvers": [{"name": "mine", "use": "<secret>"}]},
        *(
            {"credential_resolvers": [{"name": "vault", "options": {**VAULT, **options}}]}
            for options in (
                {"url": "<secret>"}, {"ca_bundle": "<secret>"}, {"<secret>": 1}, {"versions": "<secret>"},
                {"token": None, "token_path": "<secret>"}, {"token": None, "kubernetes": "<secret>"},
            )
        ),
        {"proxy": {"inbound": {"kind": "api_keys", "api_keys_file": "<secret>", "<secret>": 1}}},
        {"proxy": {"inbound": {**JWT, "ca_bundle": "<secret>", "algorithms": "<secret>"}}},
        {"proxy": {"tls_certificate": "<secret>", "routes": ["<secret>"], "external_url": "<secret>"}},
    ],
    ids=str,
)  # fmt: skip
def test_the_file_is_refused_without_repeating_it(
    blocks: dict[str, Any], secret: str, tmp_path: Path
) -> None:
    """Each key that takes a name or a path, with a secret in its place; the line is named."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {filled(key): filled(each) for key, each in value.items() if each is not None}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return secret if value == "<secret>" else value

    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(yaml.safe_dump(filled(blocks)))
    error: InvalidConfigurationError | None = None
    try:
        load_configuration(file, environ={})
    except InvalidConfigurationError as caught:
        error = caught
    # Blocks with an unknown name belong to other programs, and any name may be a resolver's.
    assert error is not None or "<secret>" in blocks
    assert str(error or f"{file}:").startswith(f"{file}:")
    assert secret not in (text_of(error) if error else "")


@pytest.mark.parametrize("secret", [SECRET, WITH_SLASHES, LIKE_A_NAME])
@pytest.mark.parametrize(
    "key", ["client_secret_path", "certificate_path", "federated_token_file", "ca_bundle"]
)
def test_set_config_shows_no_secret_in_the_place_of_a_path(
    key: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its log lines, nor the errors of a look-up, nor the status."""
    caplog.set_level(logging.DEBUG)
    own = {"client_secret": "x"} if key == "ca_bundle" else {}
    manager = AzureEntraIDManager.isolated()
    manager.set_config({**IDENTITY, **own, key: secret, "authority_host": "https://127.0.0.1:9"})
    with pytest.raises(LightspeedAzureError) as caught:
        manager.get_token()
    assert secret not in f"{text_of(caught.value)} {caplog.text} {manager.status()}"
    manager.close()


async def test_a_key_in_the_place_of_a_variable_is_refused(tmp_path: Path) -> None:
    """The message says what belongs there; a name that is one is shown, whether set or not."""
    with pytest.raises(InvalidConfigurationError) as caught:
        ProviderCredentials([{**PROVIDER, "source": {"env": SECRET}}])
    assert str(caught.value) == (
        "provider_credentials[0].source.env: must be the name of an environment variable, such as "
        "VLLM_API_KEY, and not its value"
    )
    shown = []
    for name in ("NO_SUCH_VARIABLE", LIKE_A_NAME):
        found = ProviderCredentials([{**PROVIDER, "source": {"env": name}}])
        keys = found.keys("mine", "remote::vllm", None, "llama-stack")
        assert keys is not None
        with pytest.raises(KeyUnavailableError) as failed:
            await keys.data()
        shown += [failed.value.message, found.status()[0].fault]
    assert shown == [
        "provider_credentials mine.vllm_api_token: variable NO_SUCH_VARIABLE is not set",
        "variable NO_SUCH_VARIABLE is not set",
        "provider_credentials mine.vllm_api_token: variable of source.env is not set",
        "variable of source.env is not set",
    ]


async def test_a_key_in_the_place_of_a_resolver_is_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither by the request that fails, nor by status and log, nor by the resolution itself."""
    blocks = configuration_from_mapping(
        {"credential_resolvers": [{"name": "vault", "options": VAULT}]}, environ={}
    ).credential_resolvers
    found = ProviderCredentials([{**PROVIDER, "source": {"plugin": SECRET}}])
    keys = found.keys("mine", "remote::vllm", None, "llama-stack")
    assert keys is not None
    with configured(blocks):
        with pytest.raises(InvalidConfigurationError) as caught:
            await keys.data()
        with pytest.raises(InvalidConfigurationError):
            resolve_credential("mine", "vllm_api_token", resolver=SECRET)
    assert str(caught.value) == (
        "there is no credential resolver of that name for resolve_credential; the resolvers are vault"
    )
    assert SECRET not in f"{text_of(caught.value)} {found.status()} {caplog.text}"


def test_a_path_that_is_one_is_shown(tmp_path: Path) -> None:
    """It exists, or its directory does; what may be a secret is called by its key alone."""
    (tmp_path / "there").write_text("x")
    assert SecretFile(tmp_path / "there").label == f"client_secret_path {tmp_path}/there"
    assert SecretFile(tmp_path / "a" / "b").label == f"client_secret_path {tmp_path}/a/b"
    for secret in (SECRET, WITH_SLASHES, LIKE_A_NAME, "/" + SECRET):
        assert SecretFile(secret).label == "client_secret_path"
        assert repr(SecretFile(secret)) == "SecretFile('client_secret_path')"
