"""Cures that name what is really in the way of a token: the proxy, the Azure CLI, the assertion."""

import json
import logging
import os
import socket
from pathlib import Path

import pytest
from entra_material import assertion
from signing_in import (
    CANARY,
    attempt,
    configured,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.errors import TokenError
from lightspeed_azure.network_failure import proxy_variable
from lightspeed_azure.tokens.aadsts import MEANINGS
from lightspeed_azure.tokens.entra import credential_source

pytestmark = pytest.mark.integration

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def failure(emu: Emulators, *, timeout: float = 10.0, **block: object) -> TokenError:
    """Return the error of signing in with this block."""
    with pytest.raises(TokenError) as caught:
        credential_source(configured(emu, **block))(attempt(timeout=timeout))
    return caught.value


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment names a proxy where nothing listens, for HTTP alone."""
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", url)
    return url


def test_a_slow_azure_cli(emu: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entra ID was never asked, so it is not blamed; the cure is the deadline."""
    az = tmp_path / "az"
    az.write_text("#!/bin/sh\nexec sleep 20\n")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    error = failure(emu, timeout=1.0, azure_cli=True)
    assert error.message == "The Azure CLI took longer than 1 s"
    assert error.cure == "Raise deadline, or see why it is slow: az account get-access-token"
    assert not error.permanent


def test_a_managed_identity_behind_a_proxy(
    emu: Emulators, dead_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is named, and the host that belongs into NO_PROXY."""
    del dead_proxy
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.169.254")
    error = failure(emu, managed_identity="system")
    assert error.message == (
        "The managed-identity endpoint is asked through HTTP_PROXY, and does not answer"
    )
    assert error.cure == "Add the endpoint to NO_PROXY: NO_PROXY=169.254.169.254"


def test_a_managed_identity_that_no_proxy_spares(
    emu: Emulators, dead_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With NO_PROXY the endpoint answers, and what it refuses has its own cure."""
    del dead_proxy
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert credential_source(configured(emu, managed_identity="system"))(attempt()).secret
    error = failure(emu, managed_identity={"client_id": "nobody"})
    assert error.cure == "Assign the identity to it, or correct managed_identity"


@pytest.mark.parametrize(
    ("variable", "exempt", "url", "expected"),
    [
        ("HTTP_PROXY", "", "http://169.254.169.254", "HTTP_PROXY"),
        ("http_proxy", "", "http://169.254.169.254", "http_proxy"),
        ("ALL_PROXY", "", "http://169.254.169.254", "ALL_PROXY"),
        ("HTTPS_PROXY", "", "http://169.254.169.254", ""),
        ("HTTP_PROXY", "169.254.169.254", "http://169.254.169.254", ""),
        ("HTTP_PROXY", "169.254.0.0/16", "http://169.254.169.254/metadata", ""),
        ("HTTP_PROXY", "example.com", "http://169.254.169.254", "HTTP_PROXY"),
        ("", "", "http://169.254.169.254", ""),
    ],
)
def test_the_variable_that_leads_through_a_proxy(
    variable: str, exempt: str, url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As requests reads them, networks in NO_PROXY included."""
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    if exempt:
        monkeypatch.setenv("NO_PROXY", exempt)
    assert proxy_variable(url) == expected


def test_azure_identity_does_not_repeat_our_error(
    emu: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """Its warning would tell the same failure with another cure."""
    with caplog.at_level(logging.INFO):
        failure(emu, client_secret=CANARY)
    assert [record for record in caplog.records if record.name.startswith("azure.identity")] == []


def test_azure_identity_still_warns_others(
    emu: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """The twin: a credential that the application made by itself logs as before."""
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ClientSecretCredential

    failure(emu, client_secret=CANARY)  # our filter is in place
    with (
        ClientSecretCredential(
            emu.entra.tenant_id,
            str(emu.entra.application.client_id),
            CANARY,
            authority=emu.entra.authority,
            disable_instance_discovery=True,
            connection_verify=str(emu.ca_bundle),
        ) as credential,
        caplog.at_level(logging.WARNING),
        pytest.raises(ClientAuthenticationError),
    ):
        credential.get_token("https://cognitiveservices.azure.com/.default")
    assert [r.levelname for r in caplog.records if r.name.startswith("azure.identity")] == [
        "WARNING"
    ]


def refusal(code: str, error: str = "invalid_client") -> Fault:
    """Return the fault of an authority that refuses with a code."""
    text = f"AADSTS{code}: Words of Entra ID. Trace ID: t"
    body = json.dumps({"error": error, "error_description": text, "error_codes": [int(code)]})
    return Fault.status(401, body=body)


COMPARE = (
    "Compare issuer, subject and audience of the federated credential with those of the assertion, "
    "which lightspeed-azure check shows"
)


@pytest.mark.parametrize(
    ("code", "what", "cure"),
    [
        (
            "70023",
            "Entra ID does not accept the assertion in federated_token_file for application {client}",
            COMPARE,
        ),
        (
            "70025",
            "Application {client} has no federated credential",
            "Add one, with the issuer, subject and audience that lightspeed-azure check shows",
        ),
        (
            "700211",
            (
                "Application {client} does not trust the issuer of the assertion in "
                "federated_token_file"
            ),
            COMPARE,
        ),
        (
            "50194",
            "Application {client} cannot sign in at {tenant}",
            "Set tenant_id to the directory id of the application's own tenant",
        ),
        (
            "999999",
            "Entra ID refuses application {client}",
            "Check client_id, tenant_id, scope and federated_token_file; the link explains the code",
        ),
    ],
)
def test_a_code_has_words_and_a_cure(
    emu: Emulators, tmp_path: Path, code: str, what: str, cure: str
) -> None:
    """One that is in no list names what the identity consists of."""
    file = tmp_path / "token"
    file.write_text(assertion())
    emu.entra.fault(refusal(code))
    error = failure(emu, federated_token_file=file)
    names = {"client": emu.entra.application.client_id, "tenant": emu.entra.tenant_id}
    assert error.message == f"{what.format(**names)} [AADSTS{code}]"
    assert error.cure == cure
    assert error.permanent


@pytest.mark.parametrize("code", ["90061", "90055", "50033"])
def test_a_passing_code_is_tried_again(emu: Emulators, code: str) -> None:
    """No change of the configuration is needed."""
    emu.entra.fault(refusal(code, "invalid_request"))
    secret = emu.entra.application.client_secret
    assert not failure(emu, client_secret=secret).permanent


def test_every_code_can_be_put_into_words() -> None:
    """Each permanent one has a cure, and no placeholder is misspelt."""
    words = dict.fromkeys(("client", "tenant", "scope", "authority", "source"), "x")
    for code, meaning in MEANINGS.items():
        assert code.isdigit()
        assert "{" not in meaning.what.format(**words) + meaning.cure.format(**words)
        assert meaning.cure or not meaning.permanent
