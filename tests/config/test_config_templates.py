"""A value that nothing fills in is refused, with what to write; it is never used as it stands."""

from pathlib import Path
from typing import Any

import pytest

from lightspeed_azure import AzureEntraIdConfiguration, InvalidConfigurationError
from lightspeed_azure.config import LlamaStackConfiguration, load_configuration
from lightspeed_azure.config.provider_credentials import ProviderCredential
from lightspeed_azure.config.vaults import VaultConfiguration
from lightspeed_azure.enrichment import enrich_text

NAME = "AZURE_CLIENT_SECRET"

TEMPLATES = {
    f"${{{NAME}}}": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    f"${{{NAME}:-sk-1}}": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    f"{{{{ {NAME} }}}}": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    "{{ .Values.secret | quote }}": "is a template that nothing fills in; write ${env.NAME}",
    "{{secret}}": "is a template that nothing fills in; write ${env.SECRET}",
    "{{ 1 }}": "is a template that nothing fills in; write ${env.NAME}",
    f"${NAME}": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    f"$({NAME})": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    f"%{NAME}%": f"is a template that nothing fills in; write ${{env.{NAME}}}",
    "<client-secret>": "is a placeholder in angle brackets; write the value itself",
}
REFERENCES = {
    f"${{env.{NAME}": f"holds ${{env.{NAME} without a closing brace; write ${{env.{NAME}}}",
    f"${{env.{NAME}:=sk-1": f"holds ${{env.{NAME} without a closing brace; write ${{env.{NAME}}}",
    f"${{env.{NAME}:sk-1}}": (
        f"holds ${{env.{NAME}:…}}, which is not substituted; write ${{env.{NAME}:=…}} to give a default"
    ),
    f"${{env.{NAME}-sk-1}}": f"holds ${{env.{NAME}…}}, which is not substituted; write ${{env.{NAME}}}",
    "${env.azure_client_secret}": (
        "holds ${env.…} without a valid name, so it is not substituted; write ${env.NAME}, with a name "
        "of capital letters, digits and underscores"
    ),
    f"${{env.A:=${{env.{NAME}}}}}": (
        "holds a ${env.…} inside another one, which is not substituted; write one of them"
    ),
}
KEYS = {
    "azure_entra_id": [
        "client_secret",
        "client_secret_path",
        "tenant_id",
        "scope",
        "authority_host",
    ],
    "llama_stack": ["url", "api_key", "ca_bundle"],
    "proxy": ["host", "external_url", "tls_key", "client_model"],
}


@pytest.mark.parametrize(("value", "problem"), [*TEMPLATES.items(), *REFERENCES.items()])
@pytest.mark.parametrize(("block", "key"), [(b, key) for b, keys in KEYS.items() for key in keys])
def test_every_value_of_the_file(
    block: str, key: str, value: str, problem: str, tmp_path: Path
) -> None:
    """Secrets, paths, names and URLs alike: one line with the cure, and no default in it."""
    file = tmp_path / "lightspeed-stack.yaml"
    if block == "azure_entra_id" and key not in ("client_secret", "client_secret_path"):
        block += ":\n  managed_identity: system"
    elif block == "azure_entra_id":
        block += ":\n  tenant_id: t\n  client_id: c"
    elif block == "proxy" and key == "tls_key":
        block += ":\n  tls_certificate: /x"
    else:
        block += ":"
    if key in ("api_key", "ca_bundle"):
        block += "\n  url: https://x"
    file.write_text(f"{block}\n  {key}: '{value}'\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={NAME: "sk-1", "A": "a"})
    line = len(file.read_text().splitlines())
    name = block.partition(":")[0]
    assert str(caught.value) == f"{file}:{line}: {name}.{key}: {problem}"


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("provider_credentials:\n  - {provider_id: a, source: {value: '<value>'}}\n", "provider_credentials[0].source.value", 2),
        ("proxy:\n  routes: ['<value>']\n", "proxy.routes", 2),
        ("credential_resolvers:\n  - name: vault\n    options: {url: https://v, token: '<value>'}\n", "credential_resolvers[0].options.token", 3),
        ("proxy:\n  inbound: {kind: jwt, issuer: '<value>', audience: a, jwks_uri: https://x}\n", "proxy.inbound.issuer", 2),
    ],
)  # fmt: skip
def test_values_further_in(text: str, key: str, line: int, tmp_path: Path) -> None:
    """In lists and nested maps."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(text.replace("<value>", f"${{{NAME}}}"))
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert (
        f"{file}:{line}: {key}: is a template that nothing fills in; write ${{env.{NAME}}}"
        in str(caught.value)
    )


@pytest.mark.parametrize(("value", "problem"), [*TEMPLATES.items(), *REFERENCES.items()])
def test_a_program_that_gives_a_template_is_told(value: Any, problem: str) -> None:
    """`set_config()` and the models substitute nothing."""
    for make in (
        lambda: AzureEntraIdConfiguration(tenant_id="t", client_id="c", client_secret=value),
        lambda: LlamaStackConfiguration(url="https://x", api_key=value),
        lambda: ProviderCredential.from_object({"provider_id": "a", "source": {"value": value}}),
    ):
        with pytest.raises(InvalidConfigurationError) as caught:
            make()
        assert str(caught.value).partition(": ")[2] == problem
    with pytest.raises(InvalidConfigurationError) as caught:
        LlamaStackConfiguration.from_object({"url": "https://x", "api_key": f"${{env.{NAME}}}"})
    assert str(caught.value) == (
        "api_key: holds ${env.…}, which is only substituted in a file; give the value itself"
    )


@pytest.mark.parametrize(
    "value",
    ["Abc8Q~x{y}.z_1-2", "a$b", "$", "100%", "a<b", "{x}", "}}", "p$${w", "{ {x} }", "%", "<>"],
)
def test_a_secret_may_hold_any_sign(value: str) -> None:
    """What only resembles a template is taken as it is."""
    config: Any = AzureEntraIdConfiguration(tenant_id="t", client_id="c", client_secret=value)
    assert config.client_secret.get_secret_value() == value


def test_a_vaults_own_placeholders_stay() -> None:
    """`{provider_id}` is filled in; a doubled brace is told as one too many."""
    given: dict[str, Any] = {"url": "https://v", "token": "t"}
    assert VaultConfiguration(**given, path="x/{provider_id}").path == "x/{provider_id}"
    with pytest.raises(InvalidConfigurationError, match="has a brace too many"):
        VaultConfiguration(**given, path="x/{{provider_id}}")


def test_every_value_of_the_stacks_own_file() -> None:
    """run.yaml: each value that the stack takes literally is named with its line."""
    run = """\
providers:
  inference:
  - provider_id: azure
    provider_type: remote::azure
    config:
      base_url: ${env.AZURE_API_BASE:https://x.openai.azure.com/openai/v1}
      api_key: ${env.AZURE_API_KEY:=}
  safety:
  - {provider_id: s, provider_type: inline::x, config: {my_key: '${env.KEY:sk-1}', other-key: '${env.x}'}}
registered_resources:
  models: [{model_id: m, provider_id: azure}]
storage: {path: '${env.STORE', prompt: 'Say {{ name }} and ${NAME}'}
"""
    warnings = enrich_text(run, "run.yaml", (None,)).warnings
    assert [line for line in warnings if "holds" in line] == [
        f"run.yaml:{line}"
        for line in (
            "6: providers.inference[0].config.base_url: holds ${env.AZURE_API_BASE:…}, which is not substituted; write ${env.AZURE_API_BASE:=…} to give a default",
            "9: providers.safety[0].config.my_key: holds ${env.KEY:…}, which is not substituted; write ${env.KEY:=…} to give a default",
            "9: providers.safety[0].config.…: holds ${env.…} without a valid name, so it is not substituted; write ${env.NAME}, with a name of capital letters, digits and underscores",
            "12: storage.path: holds ${env.STORE without a closing brace; write ${env.STORE}",
        )
    ]  # fmt: skip
    assert not [line for line in warnings if "does not end in /openai/v1" in line]
