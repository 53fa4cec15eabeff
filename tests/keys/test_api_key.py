"""A key out of a file, a variable or `.env`, and whose it is."""

import asyncio
import os
from pathlib import Path

import pytest
from kubernetes_volume import KubernetesVolume
from resolving import hook_fixture

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys import (
    aget_api_key,
    aresolve_credential,
    get_api_key,
    is_key_field,
    resolve_credential,
)
from lightspeed_azure.keys.api_key import environment_name

__all__ = ["hook_fixture"]
pytestmark = pytest.mark.usefixtures("hook")


def key(service: str) -> str | None:
    """Ask for a key."""
    found = get_api_key(service)
    return found.get_secret_value() if found else None


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("azure-openai", "AZURE_OPENAI_API_KEY"),
        ("My.Service", "MY_SERVICE_API_KEY"),
        ("llama::70b", "LLAMA__70B_API_KEY"),
        ("3scale", "_3SCALE_API_KEY"),
        ("größe", "GR_SSE_API_KEY"),
    ],
)
def test_a_service_has_a_variable(service: str, name: str) -> None:
    """Its name is one that POSIX allows."""
    assert environment_name(service) == name


@pytest.mark.parametrize("service", ["", "-", "::", "ключ"])
def test_a_service_without_a_name_is_refused(service: str) -> None:
    """Else `_API_KEY` would be everybody's."""
    with pytest.raises(InvalidConfigurationError, match="needs a name"):
        get_api_key(service)


def test_services_that_share_a_variable_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one: it would get the other's key."""
    monkeypatch.setenv("SHARED_BY_TWO_API_KEY", "of-the-first")
    assert key("shared-by-two") == "of-the-first"
    for _ in range(2):
        with pytest.raises(InvalidConfigurationError, match="both read SHARED_BY_TWO_API_KEY"):
            get_api_key("shared_by_two")
    assert key("shared-by-two") == "of-the-first"


def test_file_then_variable_then_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order; an empty one counts as not there; each is read anew at every call."""
    assert key("openai") is None
    Path(".env").write_text("# ours\nexport OPENAI_API_KEY='of-dotenv'  # the key\nOTHER=1\n")
    assert key("openai") == "of-dotenv"
    Path(".env").write_text('OPENAI_API_KEY="of-dotenv-${OTHER}-2"\n')
    assert key("openai") == "of-dotenv-${OTHER}-2"
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert key("openai") == "of-dotenv-${OTHER}-2"
    monkeypatch.setenv("OPENAI_API_KEY", " of-the-variable\n")
    assert key("openai") == "of-the-variable"
    volume = KubernetesVolume(tmp_path / "openai", apitoken="of-the-file\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(volume.path))
    assert key("openai") == "of-the-file"
    volume.swap(apitoken="rotated")
    found = asyncio.run(aget_api_key("openai"))
    assert found is not None
    assert found.get_secret_value() == "rotated"
    volume.swap(apitoken="")
    assert key("openai") == "rotated"
    assert "OTHER" not in os.environ


@pytest.mark.parametrize("value", ["two\nlines", "x" * 20_000, "tab\there"])
def test_what_is_no_key_is_an_error_that_names_the_place(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the value."""
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(InvalidConfigurationError, match="OPENAI_API_KEY: holds") as caught:
        get_api_key("openai")
    assert value not in str(caught.value)


def test_a_dotenv_that_cannot_be_read_is_an_error() -> None:
    """Not text, or too large; a directory of that name is none."""
    Path(".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")
    with pytest.raises(InvalidConfigurationError, match=r"\.env: is not text in UTF-8"):
        get_api_key("openai")
    Path(".env").write_bytes(b"#" * (1 << 21))
    with pytest.raises(InvalidConfigurationError, match=r"\.env: is larger than 1 MiB"):
        get_api_key("openai")
    Path(".env").unlink()
    Path(".env").mkdir()
    assert key("openai") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_dotenv_that_is_a_pipe_holds_up_nobody() -> None:
    """Some password managers make one; opening it would wait for its other end."""
    os.mkfifo(".env")
    with pytest.raises(InvalidConfigurationError, match=r"\.env: is not a regular file"):
        get_api_key("openai")


def test_only_fields_that_are_keys_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A URL or a project is not the provider's key."""
    monkeypatch.setenv("WATSONX_API_KEY", "the-key")
    found = resolve_credential("watsonx", "watsonx_api_key")
    assert found is not None
    assert found.get_secret_value() == "the-key"
    assert resolve_credential("watsonx", "watsonx_project_id") is None


@pytest.mark.parametrize(
    ("field", "is_key"),
    [
        ("openai_api_key", True),
        ("vllm_api_token", True),
        ("vertex_access_token", True),
        ("aws_bearer_token_bedrock", True),
        ("aws_bedrock_bearer_token", True),
        ("api_key", True),
        ("gateway_secret_key", True),
        ("max_tokens", False),
        ("monkey", False),
        ("azure_api_base", False),
        ("azure_api_version", False),
        ("vertex_project", False),
        ("passthrough_url", False),
    ],
)
def test_which_fields_are_keys(field: str, is_key: bool) -> None:
    """As the stack's providers name them."""
    assert is_key_field(field) is is_key


async def test_two_providers_of_one_type_have_keys_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The provider's id decides, not the field's name."""
    monkeypatch.setenv("RHOAI_API_KEY", "of-rhoai")
    monkeypatch.setenv("RHELAI_API_KEY", "of-rhelai")
    found = [await aresolve_credential(each, "vllm_api_token") for each in ("rhoai", "rhelai")]
    assert [each.get_secret_value() for each in found if each] == ["of-rhoai", "of-rhelai"]
