"""What is said of a variable that has no value: unset or empty, with a cure that fits the key."""

import asyncio
from pathlib import Path

import pytest

from lightspeed_azure.config import ProviderCredential, load_configuration
from lightspeed_azure.config.provider_credentials import Source
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.key_source import EnvironmentKey

IDS = "azure_entra_id:\n  tenant_id: t\n  client_id: c\n"
STACK = "llama_stack:\n  url: http://localhost\n"

EMPTY = {"EMPTY": ""}


def problem(folder: Path, text: str) -> str:
    """Return the one problem of a file, without the file's name."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ=EMPTY)
    (found,) = caught.value.problems
    return found.removeprefix(f"{file}:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            IDS + "  client_secret: ${env.UNSET}\n",
            (
                "4: azure_entra_id.client_secret: environment variable UNSET is not set; "
                "set it where the service runs"
            ),
        ),
        (
            IDS + "  client_secret: ${env.EMPTY}\n",
            (
                "4: azure_entra_id.client_secret: environment variable EMPTY is empty; "
                "give it a value where the service runs"
            ),
        ),
        (
            STACK + "  api_key: ${env.UNSET}\n",
            (
                "3: llama_stack.api_key: environment variable UNSET is not set; "
                "set it where the service runs"
            ),
        ),
        (
            "llama_stack:\n  url: ${env.UNSET}\n",
            (
                "2: llama_stack.url: environment variable UNSET is not set; "
                "set it, or write ${env.UNSET:=a default}"
            ),
        ),
        (
            "llama_stack:\n  url: ${env.EMPTY}\n",
            (
                "2: llama_stack.url: environment variable EMPTY is empty; "
                "give it a value, or write ${env.EMPTY:=a default}"
            ),
        ),
        (
            "provider_credentials:\n  - {provider_id: o, source: {value: '${env.UNSET}'}}\n",
            (
                "2: provider_credentials[0].source.value: environment variable UNSET is not set; "
                "set it where the service runs"
            ),
        ),
        (
            (
                "credential_resolvers:\n  - name: vault\n"
                "    options: {url: http://localhost, token: '${env.UNSET}'}\n"
            ),
            (
                "3: credential_resolvers[0].options.token: environment variable UNSET is not set; "
                "set it where the service runs"
            ),
        ),
        (
            "provider_credentials:\n  - {provider_id: o, source: {env: UNSET}}\n",
            (
                "2: provider_credentials[0].source.env: names a variable that is not set; "
                "set it, or add optional: true"
            ),
        ),
        (
            "provider_credentials:\n  - {provider_id: o, source: {env: EMPTY}}\n",
            (
                "2: provider_credentials[0].source.env: names a variable that is empty; "
                "give it a value, or add optional: true"
            ),
        ),
        (
            IDS + "  client_secret: ${env.EMPTY:=}\n",
            (
                "4: azure_entra_id.client_secret: is empty once its variables are filled in; "
                "give it a value"
            ),
        ),
        (
            "azure_entra_id:\n  tenant_id: ${env.UNSET:=}\n  client_id: c\n  client_secret: s\n",
            (
                "2: azure_entra_id.tenant_id: is empty once its variables are filled in; "
                "give it a value"
            ),
        ),
        (
            "llama_stack:\n  url: ${env.UNSET:=}\n",
            "2: llama_stack.url: is empty once its variables are filled in; give it a value",
        ),
    ],
)
def test_a_variable_without_a_value_has_the_right_cure(
    text: str, expected: str, tmp_path: Path
) -> None:
    """No default is proposed for a secret, and what is set to nothing is called empty."""
    assert problem(tmp_path, text) == expected


def test_a_key_that_is_not_there_is_called_missing(tmp_path: Path) -> None:
    """The twin: only a key that is written can come out empty."""
    assert problem(tmp_path, "azure_entra_id:\n  client_id: c\n  client_secret: s\n") == (
        "1: azure_entra_id.tenant_id: is missing; add it, or set AZURE_TENANT_ID"
    )


@pytest.mark.parametrize(("value", "words"), [(None, "is not set"), ("", "is empty")])
def test_the_source_of_a_key_says_it_too(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At run time the same two words are used."""
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    source = EnvironmentKey(ProviderCredential(provider_id="o", source=Source(env="SOME_KEY")))
    assert asyncio.run(source.get("o", "openai_api_key")) is None
    assert source.fault == f"variable SOME_KEY {words}"
