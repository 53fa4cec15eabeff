"""Entries of olsconfig.yaml that are none of ours: what they are, in one line each."""

from pathlib import Path

import pytest

from lightspeed_azure.config import load_configuration
from lightspeed_azure.errors import InvalidConfigurationError


def problems(folder: Path, entries: str) -> list[str]:
    """Return the problems of `provider_credentials:` with these entries, without the file's name."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(f"provider_credentials:\n{entries}")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    return [each.removeprefix(f"{file}:") for each in caught.value.problems]


@pytest.mark.parametrize(
    "entry",
    [
        "{name: a, type: azure_openai, azure_openai_config: {credentials_path: CREDS}}",
        "{name: a, type: azure_openai, credentials_path: CREDS}",
        "{provider_id: a, source: {file: CREDS}}",
    ],
)
def test_an_identity_is_told_apart_from_a_key(tmp_path: Path, entry: str) -> None:
    """A directory with tenant, application and secret belongs into azure_entra_id."""
    creds = tmp_path / "creds"
    creds.mkdir()
    for name in ("tenant_id", "client_id", "client_secret"):
        (creds / name).write_text("x")
    (found,) = problems(tmp_path, f"  - {entry.replace('CREDS', str(creds))}\n")
    assert found.partition("path: " if "path" in entry else "file: ")[2] == (
        f"{creds}: holds an identity, not a key; write azure_entra_id with tenant_id, client_id "
        f"and client_secret_path: {creds} in the place of this entry"
    )


def test_a_directory_without_a_key_names_the_file_that_is_missing(tmp_path: Path) -> None:
    """The directory is there, so it is not called missing."""
    creds = tmp_path / "creds"
    creds.mkdir()
    (creds / "token").write_text("sk-1")
    (found,) = problems(tmp_path, f"  - {{provider_id: a, source: {{file: {creds}}}}}\n")
    assert found == (
        f"2: provider_credentials[0].source.file: {creds}: is a directory without a file apitoken; "
        "add it, or name the file itself"
    )


@pytest.mark.parametrize(
    "entry",
    [
        "{name: b, type: ollama, url: 'http://localhost:11434', models: [{name: x}]}",
        "{name: b, type: openai, url: 'https://x'}",
        "{name: b, type: fake_provider}",
    ],
)
def test_an_entry_without_a_key_is_one_problem(tmp_path: Path, entry: str) -> None:
    """A provider without a key needs no entry; there is one line, not one a key."""
    assert problems(tmp_path, f"  - {entry}\n") == [
        (
            "2: provider_credentials[0]: names no key; name its file with credentials_path, or remove "
            "the entry: a provider without a key needs none"
        )
    ]


def test_bedrock_is_known(tmp_path: Path) -> None:
    """Its key is the one that both stacks' remote::bedrock reads."""
    (tmp_path / "key").write_text("bedrock-key")
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(
        "provider_credentials:\n"
        f"  - {{name: a, type: bedrock, bedrock_config: {{credentials_path: {tmp_path}/key}}}}\n"
    )
    (entry,) = load_configuration(file, environ={}).provider_credentials
    assert (entry.provider_id, entry.provider_type, entry.field) == ("a", "remote::bedrock", None)
    assert entry.source.file == tmp_path / "key"


def test_a_type_that_is_not_known_names_those_that_are(tmp_path: Path) -> None:
    """One line, with every type."""
    assert problems(tmp_path, "  - {name: a, type: vllm, credentials_path: /x}\n") == [
        (
            "2: provider_credentials[0].type: must be one of azure_openai, bedrock, google_vertex, "
            "google_vertex_anthropic, openai, rhelai_vllm, rhoai_vllm, watsonx beside credentials_path"
        )
    ]
