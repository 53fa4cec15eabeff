"""`lightspeed-azure token`: says everything of the token but the token."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from check_support import run, write_configuration

from lightspeed_azure.emulators import Emulators


@pytest.fixture
def configuration(tmp_path: Path, azure_environment: dict[str, str]) -> str:
    """The example's configuration, which leads to the emulators."""
    return str(write_configuration(tmp_path))


def parts(text: str) -> list[str]:
    """Return what looks like a JWT's part."""
    return [word for word in text.replace(".", " ").split() if len(word) > 100]


def test_the_token_is_described_and_not_shown(
    configuration: str, azure_emulators: Emulators
) -> None:
    """Lifetime, audience, tenant and application; no part of the token."""
    result = run("token", "-c", configuration)
    assert result.exit_code == 0
    assert "lives        60 min" in result.stdout
    assert "aud          https://cognitiveservices.azure.com" in result.stdout
    assert str(azure_emulators.entra.application.client_id) in result.stdout
    assert parts(result.output) == []
    known = json.loads(run("token", "-c", configuration, "--json").stdout)
    assert known["claims"]["tid"] == azure_emulators.entra.tenant_id
    assert 3590 <= known["remaining_seconds"] <= 3600


def test_raw_is_the_token_alone(configuration: str) -> None:
    """Standard output holds nothing else, and standard error no warning where nobody sees it."""
    result = run("token", "-c", configuration, "--raw")
    assert result.stdout.count(".") == 2
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_header_is_a_line_for_curl(configuration: str) -> None:
    """`curl -H @<(…)` takes it as it is."""
    result = run("token", "-c", configuration, "--header")
    assert result.stdout.startswith("Authorization: Bearer e")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("option", ["--raw", "--header"])
def test_on_a_terminal_a_secret_is_warned_about(configuration: str, option: str) -> None:
    """When standard output is a terminal, standard error says that a secret is on it."""
    ours, theirs = pty.openpty()
    result = subprocess.run(
        [sys.executable, "-m", "lightspeed_azure", "token", "-c", configuration, option],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    os.close(theirs)
    os.close(ours)
    assert "This is a secret" in result.stderr


def test_no_token_is_1_and_bad_input_is_2(
    configuration: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The reason stands on standard error, nothing on standard output."""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong-canary-secret")
    result = run("token", "-c", configuration)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "AADSTS7000215" in result.stderr
    assert "wrong-canary-secret" not in result.stderr
    assert run("token", "-c", str(tmp_path / "missing.yaml")).exit_code == 2
    assert run("token", "-c", configuration, "--raw", "--header").exit_code == 2


IDENTITY = "  - {provider_id: %s, tenant_id: t, client_id: c, client_secret: s}\n"


@pytest.mark.parametrize(
    ("identities", "cure"),
    [
        (None, "leave it out: there is one, for every provider"),
        (["east"], "write one of east"),
        (["east", "west"], "write one of east, west"),
        (["nopes", "west"], "did you mean nopes?"),
    ],
)
def test_a_provider_without_an_identity_is_2(
    configuration: str, identities: list[str] | None, cure: str
) -> None:
    """The token of another identity is not shown in its place."""
    if identities is not None:
        file = Path(configuration)
        head = file.read_text().partition("azure_entra_id:")[0]
        file.write_text(f"{head}azure_entra_id:\n{''.join(IDENTITY % name for name in identities)}")
    result = run("token", "-c", configuration, "--provider", "nope", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"lightspeed-azure: --provider: no identity has provider_id nope; {cure}\n"
    )


def test_a_provider_with_an_identity_gets_its_token(configuration: str) -> None:
    """The twin: the identity that names the provider."""
    file = Path(configuration)
    file.write_text(
        file.read_text().replace("azure_entra_id:\n", "azure_entra_id:\n  provider_id: azure\n")
    )
    assert run("token", "-c", configuration, "--provider", "azure").exit_code == 0
