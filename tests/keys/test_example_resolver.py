"""The resolver that people copy works, and is short."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from resolving import Hook, hook_fixture

from lightspeed_azure.config import configuration_from_mapping
from lightspeed_azure.errors import CredentialResolutionError
from lightspeed_azure.keys import configured, resolve_credential

__all__ = ["hook_fixture"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "credential_resolver.py"
PASS = """#!/bin/sh
case "$2" in
  lightspeed/openai/openai_api_key) printf 'of-pass\\nurl: https://example\\n' ;;
  lightspeed/locked/*) echo 'gpg: decryption failed: No secret key' >&2; exit 2 ;;
  *) echo "Error: $2 is not in the password store." >&2; exit 1 ;;
esac
"""


@pytest.fixture
def example(hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example as its own words configure it, with a stand-in for `pass` on the path."""
    command = tmp_path / "pass"
    command.write_text(PASS)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    block = {
        "name": "pass",
        "use": "credential_resolver:PassResolver",
        "ttl": 300,
        "on_error": "fail",
        "options": {"folder": "lightspeed"},
    }
    loaded = configuration_from_mapping({"credential_resolvers": [block]})
    with configured(loaded.credential_resolvers):
        yield
    sys.modules.pop("credential_resolver", None)


@pytest.mark.usefixtures("example")
def test_it_answers_passes_and_says_what_is_wrong() -> None:
    """The three things that a resolver does."""
    found = resolve_credential("openai", "openai_api_key")
    assert found is not None
    assert found.get_secret_value() == "of-pass"
    assert resolve_credential("nobody", "nobody_api_key") is None
    with pytest.raises(CredentialResolutionError, match="is the gpg agent unlocked"):
        resolve_credential("locked", "openai_api_key")


def test_it_is_short() -> None:
    """Nobody copies a long one."""
    assert len(EXAMPLE.read_text().splitlines()) <= 40
