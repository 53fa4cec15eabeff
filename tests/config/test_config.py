"""What an operator may write, and what it comes to."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, SecretStr

from lightspeed_azure.config import (
    AzureEntraIdConfiguration,
    Configuration,
    LlamaStackConfiguration,
    configuration_from_mapping,
    load_configuration,
)
from lightspeed_azure.errors import InvalidConfigurationError

PUBLIC = "https://cognitiveservices.azure.com/.default"
IDS = {"tenant_id": "t", "client_id": "c"}


def identity(environ: dict[str, str] | None = None, **block: Any) -> AzureEntraIdConfiguration:
    """Return the one identity of a configuration with this block."""
    (one,) = configuration_from_mapping(
        {"azure_entra_id": block}, environ=environ or {}
    ).azure_entra_id
    return one


def test_importing_the_configuration_imports_no_azure() -> None:
    """Reading a file costs neither azure-identity nor cryptography nor Llama Stack."""
    code = (
        "import sys; import lightspeed_azure.config, lightspeed_azure.tokens.entra;"
        "print([m for m in ('azure', 'msal', 'cryptography', 'llama_stack', 'ruamel')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_rest_of_the_file_belongs_to_others(tmp_path: Path) -> None:
    """Unknown blocks, unset variables in them and lightspeed-stack's own keys are let alone."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(
        "name: x\nservice: {auth: '${env.NOT_SET}', workers: [1, 2]}\n"
        "llama_stack:\n  url: http://localhost:8321\n  retries: 3\n  something: ${env.NOT_SET}\n"
    )
    loaded = load_configuration(file, environ={})
    assert loaded.azure_entra_id == ()
    assert loaded.llama_stack == LlamaStackConfiguration(url="http://localhost:8321")


def test_an_empty_file_configures_nothing(tmp_path: Path) -> None:
    """Neither block is required here; who needs one says so."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("")
    assert load_configuration(file, environ={}) == Configuration()


def test_the_file_is_found_as_lightspeed_stack_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable names the file; else it is lightspeed-stack.yaml in the working directory."""
    (tmp_path / "lightspeed-stack.yaml").write_text("llama_stack: {url: http://localhost:1}\n")
    (tmp_path / "other.yaml").write_text("llama_stack: {url: http://localhost:2}\n")
    monkeypatch.chdir(tmp_path)
    first = load_configuration(environ={}).llama_stack
    second = load_configuration(environ={"LIGHTSPEED_STACK_CONFIG_PATH": "other.yaml"}).llama_stack
    assert first is not None
    assert second is not None
    assert (first.url, second.url) == ("http://localhost:1", "http://localhost:2")


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ({**IDS, "client_secret": "s"}, "client_secret"),
        ({"managed_identity": "system"}, "managed_identity"),
        ({"managed_identity": {"resource_id": "/subscriptions/1"}}, "managed_identity"),
        ({"azure_cli": True}, "azure_cli"),
        ({"azure_cli": "true", "default": "false"}, "azure_cli"),
        ({"default": True}, "default"),
        ({"credential": "package.module:factory"}, "credential"),
    ],
)
def test_each_kind_is_named(block: dict[str, Any], kind: str) -> None:
    """The kind is that of the one key that chooses it."""
    assert identity(**block).credential_kind == kind


ALL_VARIABLES = {
    "AZURE_TENANT_ID": "env-t",
    "AZURE_CLIENT_ID": "env-c",
    "AZURE_CLIENT_SECRET": "env-s",
    "AZURE_CLIENT_CERTIFICATE_PATH": "/env/cert",
    "AZURE_FEDERATED_TOKEN_FILE": "/env/token",
}


def test_a_kind_in_the_block_ignores_the_variables_of_others() -> None:
    """What the block names is what is used, whatever the environment says."""
    system = AzureEntraIdConfiguration(environ=ALL_VARIABLES, managed_identity="system")
    assert system.credential_kind == "managed_identity"
    assert (system.tenant_id, system.client_id, system.client_secret) == (None, None, None)
    token = AzureEntraIdConfiguration(environ=ALL_VARIABLES, federated_token_file="/x")
    assert token.credential_kind == "federated_token_file"
    assert (token.tenant_id, token.client_id, token.client_secret) == ("env-t", "env-c", None)


def test_without_a_kind_the_environment_is_asked_in_azure_identitys_order() -> None:
    """Secret, certificate, federated token; the block's own ids go before the environment's."""
    environ = dict(ALL_VARIABLES)
    kinds = []
    for variable in list(ALL_VARIABLES)[2:]:
        kinds.append(AzureEntraIdConfiguration(environ=environ).credential_kind)
        del environ[variable]
    assert kinds == ["client_secret", "certificate", "federated_token_file"]
    with pytest.raises(InvalidConfigurationError, match="no way to sign in"):
        AzureEntraIdConfiguration(environ=environ)
    assert AzureEntraIdConfiguration(environ=ALL_VARIABLES, tenant_id="own").tenant_id == "own"


def test_an_empty_block_asks_the_environment_and_no_block_does_not() -> None:
    """`azure_entra_id:` alone configures Entra ID; without it there is none."""
    environ = {**IDS_ENV, "AZURE_CLIENT_SECRET": "s"}
    empty = configuration_from_mapping({"azure_entra_id": None}, environ=environ)
    assert [one.tenant_id for one in empty.azure_entra_id] == ["t"]
    assert configuration_from_mapping({}, environ=environ).azure_entra_id == ()


IDS_ENV = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}


def test_the_certificates_variables_come_together() -> None:
    """Password and chain are read from the environment only when the certificate is."""
    environ = {
        **IDS_ENV,
        "AZURE_CLIENT_CERTIFICATE_PATH": "/cert",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": "p",
        "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN": "true",
    }
    one = AzureEntraIdConfiguration(environ=environ)
    assert one.certificate_password == SecretStr("p")
    assert one.send_certificate_chain
    assert (
        AzureEntraIdConfiguration(environ=environ, certificate_path="/x").certificate_password
        is None
    )


def test_the_private_ca_can_come_from_the_environment() -> None:
    """azure-identity has no variable for it, so there is one of ours; the block goes before it."""
    environ = {**IDS_ENV, "AZURE_CLIENT_SECRET": "s", "AZURE_AUTHORITY_CA_BUNDLE": "/ca.pem"}
    assert AzureEntraIdConfiguration(environ=environ).ca_bundle == Path("/ca.pem")
    own = AzureEntraIdConfiguration(environ=environ, ca_bundle="/own.pem")
    assert own.ca_bundle == Path("/own.pem")


@pytest.mark.parametrize(
    ("block", "environ", "cloud", "authority", "scope"),
    [
        ({}, {}, "public", "https://login.microsoftonline.com", PUBLIC),
        (
            {"cloud": "us_government"},
            {},
            "us_government",
            "https://login.microsoftonline.us",
            "https://cognitiveservices.azure.us/.default",
        ),
        (
            {"cloud": "china"},
            {},
            "china",
            "https://login.chinacloudapi.cn",
            "https://cognitiveservices.azure.cn/.default",
        ),
        (
            {"authority_host": "https://login.microsoftonline.us/"},
            {},
            "us_government",
            "https://login.microsoftonline.us",
            "https://cognitiveservices.azure.us/.default",
        ),
        (
            {},
            {"AZURE_AUTHORITY_HOST": "login.chinacloudapi.cn"},
            "china",
            "https://login.chinacloudapi.cn",
            "https://cognitiveservices.azure.cn/.default",
        ),
        (
            {"cloud": "public"},
            {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"},
            "public",
            "https://login.microsoftonline.com",
            PUBLIC,
        ),
        (
            {"authority_host": "https://login.internal:8443", "scope": "api://x/.default"},
            {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"},
            "public",
            "https://login.internal:8443",
            "api://x/.default",
        ),
        (
            {"authority_host": "https://login.internal", "cloud": "china"},
            {},
            "china",
            "https://login.internal",
            "https://cognitiveservices.azure.cn/.default",
        ),
    ],
)
def test_cloud_and_authority_choose_each_other_and_the_scope(
    block: dict[str, Any], environ: dict[str, str], cloud: str, authority: str, scope: str
) -> None:
    """Whichever of the two is given, the rest follows; the block goes before the environment."""
    one = identity(environ, **IDS, client_secret="s", **block)
    assert (one.cloud, one.authority_host, one.default_scope) == (cloud, authority, scope)
    assert one.scope == block.get("scope")
    assert one.is_private_authority == authority.startswith("https://login.internal")


def test_the_authorities_are_azure_identitys() -> None:
    """Our table of clouds says what azure-identity's own constants say."""
    from azure.identity import AzureAuthorityHosts

    from lightspeed_azure.config.cloud import CLOUDS

    assert {name: cloud.authority.removeprefix("https://") for name, cloud in CLOUDS.items()} == {
        "public": AzureAuthorityHosts.AZURE_PUBLIC_CLOUD,
        "us_government": AzureAuthorityHosts.AZURE_GOVERNMENT,
        "china": AzureAuthorityHosts.AZURE_CHINA,
    }


def test_substitution_reaches_our_blocks_with_types() -> None:
    """Booleans and numbers are converted, secrets of digits are not, empty means not given."""
    one = identity(
        {"S": "0123", "FALSE": "false", "T": "true-looking"},
        tenant_id="${env.T}",
        client_id="${env.NOT_SET:=c}",
        client_secret="${env.S}",
        prefetch="${env.FALSE}",
        deadline="${env.NOT_SET:=2.5}",
        scope="${env.NOT_SET:+x}",
        azure_cli="${env.NOT_SET:=}",
    )
    assert one.client_secret is not None
    assert one.client_secret.get_secret_value() == "0123"
    assert (one.prefetch, one.deadline, one.scope, one.azure_cli) == (False, 2.5, None, False)
    assert (one.tenant_id, one.client_id) == ("true-looking", "c")


def test_an_identity_of_a_provider_that_is_switched_off_is_left_out() -> None:
    """As Llama Stack drops such a provider, unset variables in its block do no harm."""
    block = {"tenant_id": "${env.NOT_SET}"}
    loaded = configuration_from_mapping(
        {
            "azure_entra_id": [
                {"provider_id": "${env.NOT_SET:+azure-2}", **block},
                {"provider_id": "__disabled__", **block},
                {"provider_id": "azure", **IDS, "client_secret": "s"},
            ]
        },
        environ={},
    )
    assert [one.provider_id for one in loaded.azure_entra_id] == ["azure"]


def test_a_list_of_identities_keeps_its_order() -> None:
    """Several identities are told apart by the provider they serve."""
    loaded = configuration_from_mapping(
        {
            "azure_entra_id": [
                {"provider_id": "b", **IDS, "client_secret": "s"},
                {"provider_id": "a", "managed_identity": "system"},
            ]
        },
        environ={},
    )
    assert [one.provider_id for one in loaded.azure_entra_id] == ["b", "a"]


class _Foreign(BaseModel):
    """Like lightspeed-stack's own model of the block."""

    model_config = ConfigDict(extra="forbid")
    tenant_id: SecretStr
    client_id: SecretStr
    client_secret: SecretStr
    scope: str = PUBLIC


def test_any_object_with_the_attributes_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """lightspeed-stack's model, a namespace, a mapping and an instance mean the same."""
    for variable in ALL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    foreign = _Foreign(
        tenant_id=SecretStr("t"), client_id=SecretStr("c"), client_secret=SecretStr("s")
    )
    namespace = SimpleNamespace(**IDS, client_secret="s", name="unrelated", scope=None)
    mapping = {**IDS, "client_secret": "s"}
    found = [AzureEntraIdConfiguration.from_object(each) for each in (foreign, namespace, mapping)]
    assert found[0] == found[1] == found[2] == AzureEntraIdConfiguration.from_object(found[0])
    assert found[0].scope is None
    assert found[0].tenant_id == "t"
    assert found[0].tenant_id.get_secret_value() == "t"


def test_a_foreign_llama_stack_block_keeps_its_url() -> None:
    """A model of somebody else's serves as well; plain HTTP must be meant in words there, too."""
    foreign = SimpleNamespace(url=AnyHttpUrl("https://llama-stack:8321"), api_key=SecretStr("k"))
    assert LlamaStackConfiguration.from_object(foreign).url == "https://llama-stack:8321"
    foreign.url = AnyHttpUrl("http://llama-stack:8321")
    with pytest.raises(InvalidConfigurationError, match="plain HTTP"):
        LlamaStackConfiguration.from_object(foreign)
    foreign.allow_insecure = True
    assert LlamaStackConfiguration.from_object(foreign).url == "http://llama-stack:8321"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "http://127.0.0.1",
        "http://[::1]:8321/",
        "http://a.localhost",
        "https://x",
    ],
)
def test_plain_http_is_for_this_machine(url: str) -> None:
    """Loopback addresses need no TLS."""
    assert LlamaStackConfiguration(url=url).url == url.rstrip("/")


def test_no_secret_shows_in_a_representation() -> None:
    """repr, str and a dump contain no secret."""
    one = AzureEntraIdConfiguration(environ={}, **IDS, client_secret="cAn4ry")
    assert "cAn4ry" not in f"{one!r} {one} {one.model_dump()}"


def test_keyword_arguments_are_judged_like_the_file() -> None:
    """Every problem of a block at once, also for who writes Python; the error is a ValueError."""
    with pytest.raises(InvalidConfigurationError) as caught:
        AzureEntraIdConfiguration(environ={}, client_secret="cAn4ry", deadline=0, scop="x")
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "tenant_id",
        "client_id",
        "deadline",
        "scop",
    }
    assert isinstance(caught.value, ValueError)
    assert "cAn4ry" not in repr(caught.value)
