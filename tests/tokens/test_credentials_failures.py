"""Why no token came: a typed error, with what to do, and without anything secret."""

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from entra_material import Certificate, assertion
from signing_in import (
    CANARY,
    attempt,
    certified,
    configured,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    federated,
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.errors import CredentialRejectedError, TokenError, TokenUnavailableError
from lightspeed_azure.tokens.entra import credential_source

pytestmark = pytest.mark.integration


def failure(emu: Emulators, *, timeout: float = 10.0, **block: Any) -> TokenError:
    """Return the error of signing in with this block."""
    with pytest.raises(TokenError) as caught:
        credential_source(configured(emu, **block))(attempt(timeout=timeout))
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert CANARY not in repr(error) + error.cure
    assert error.cure
    assert error.link.startswith(
        ("https://learn.microsoft.com/", "https://aka.ms/", "https://login.microsoftonline.com/")
    )
    return error


def secret(emu: Emulators) -> dict[str, Any]:
    """Return the block of the default application's secret."""
    return {"client_secret": emu.entra.application.client_secret}


def test_a_wrong_secret(emu: Emulators) -> None:
    """The most common mistake: the secret's ID in the place of its value."""
    error = failure(emu, client_secret=CANARY)
    assert isinstance(error, CredentialRejectedError)
    assert error.code == "AADSTS7000215"
    assert error.link == "https://login.microsoftonline.com/error?code=7000215"
    assert "the secret's value, not its ID, in client_secret" in error.cure
    assert emu.entra.application.client_id in error.message


def test_an_expired_secret(emu: Emulators) -> None:
    """It says that a new one is needed."""
    emu.entra.expire_secrets()
    error = failure(emu, **secret(emu))
    assert (error.permanent, error.code) == (True, "AADSTS7000222")
    assert "has expired" in error.message
    assert "Create a new one" in error.cure


@pytest.mark.parametrize(
    ("block", "code", "words"),
    [
        ({"tenant_id": "nowhere"}, "AADSTS90002", "Tenant nowhere was not found at https://"),
        ({"client_id": "nobody"}, "AADSTS700016", "Application nobody was not found in tenant"),
    ],
)
def test_a_wrong_name(emu: Emulators, block: dict[str, str], code: str, words: str) -> None:
    """Tenant and application are named, with where they were looked for."""
    error = failure(emu, **{**secret(emu), **block})
    assert (error.permanent, error.code) == (True, code)
    assert words in error.message


def test_a_certificate_that_is_not_registered(emu: Emulators, tmp_path: Path) -> None:
    """Upload it, or use the other one."""
    certified(emu, Certificate(0))
    file = tmp_path / "certificate.pem"
    file.write_bytes(Certificate(1).pem())
    error = failure(emu, certificate_path=file)
    assert (error.permanent, error.code) == (True, "AADSTS700027")
    assert "Upload the certificate in certificate_path" in error.cure


def test_an_expired_certificate_says_when_it_expired(emu: Emulators, tmp_path: Path) -> None:
    """The file itself tells the date."""
    certified(emu, Certificate(0))
    file = tmp_path / "certificate.pem"
    expired = Certificate(1, days=-2)
    file.write_bytes(expired.pem())
    end = expired.certificate.not_valid_after_utc
    assert f"it expired on {end:%Y-%m-%d}" in failure(emu, certificate_path=file).message


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"seconds": -60}, "AADSTS700024", "outside of its time (it ended 20"),
        ({"iss": "https://other"}, "AADSTS700211", "does not trust the issuer"),
        ({"aud": "other"}, "AADSTS700212", "expects another audience"),
        ({"sub": "other"}, "AADSTS700213", "expects another subject"),
        ({"number": 1}, "AADSTS50013", "does not fit its issuer's keys"),
    ],
)
def test_an_assertion_that_is_refused(
    emu: Emulators, tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    """Each of its parts has an error of its own."""
    federated(emu)
    file = tmp_path / "token"
    file.write_text(assertion(**changes))
    error = failure(emu, federated_token_file=file)
    assert (error.permanent, error.code) == (True, code)
    assert words in error.message
    assert "federated_token_file" in str(error) or "federated credential" in str(error)


@pytest.mark.parametrize("kind", ["client_secret", "managed_identity"])
@pytest.mark.parametrize(
    ("status", "retry_after", "words"),
    [(429, 7, "too many requests"), (503, 9, "is not well (HTTP 503)"), (500, None, "HTTP 500")],
)
def test_a_service_that_has_too_much_to_do(
    emu: Emulators, kind: str, status: int, retry_after: float | None, words: str
) -> None:
    """It is passing, one request only was made, and `Retry-After` is kept."""
    service = emu.entra if kind == "client_secret" else emu.imds
    service.fault(Fault.status(status, retry_after=retry_after))
    block = secret(emu) if kind == "client_secret" else {"managed_identity": "system"}
    error = failure(emu, **block)
    assert isinstance(error, TokenUnavailableError)
    assert error.retry_after == retry_after
    assert words in error.message
    assert service.requests.requested == 1


def test_retry_after_may_be_a_date_by_the_services_clock(emu: Emulators) -> None:
    """RFC 9110 allows both forms; more than an hour is not waited."""
    emu.entra.fault(Fault.status(429, retry_after="Fri, 31 Dec 2100 23:59:59 GMT"))
    assert failure(emu, **secret(emu)).retry_after == 3600.0


def test_a_throttled_managed_identity_is_asked_again(emu: Emulators) -> None:
    """MSAL would repeat the refusal from its memory for as long as `Retry-After` says."""
    source = credential_source(configured(emu, managed_identity="system"))
    emu.imds.fault(Fault.status(429, retry_after=600), times=1)
    with pytest.raises(TokenUnavailableError):
        source(attempt())
    assert source(attempt()).secret


def test_a_refused_secret_is_asked_again(emu: Emulators) -> None:
    """MSAL would repeat an HTTP 400 from its memory for a minute."""
    source = credential_source(configured(emu, **secret(emu)))
    emu.entra.fault(Fault.status(400), times=1)
    with pytest.raises(TokenError):
        source(attempt())
    assert source(attempt()).secret


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


TRANSPORT: list[tuple[str, Callable[[Emulators], dict[str, Any]], str, str]] = [
    (
        "refused",
        lambda _: {"authority_host": f"https://localhost:{_free_port()}"},
        "cannot be reached: connection refused",
        "Check the host and port in authority_host, and that the service runs",
    ),
    (
        "name",
        lambda _: {"authority_host": "https://nowhere.invalid"},
        "cannot be reached: the name does not resolve",
        "Check authority_host and the DNS of this machine",
    ),
    (
        "plain",
        lambda emu: {"authority_host": emu.azure.endpoint.replace("http://", "https://")},
        "cannot be reached: no TLS connection",
        "Check that https and the port in authority_host are right, and what a proxy does in between",
    ),
]


@pytest.mark.parametrize(("name", "block", "words", "cure"), TRANSPORT)
def test_an_authority_that_cannot_be_reached(
    emu: Emulators, name: str, block: Callable[[Emulators], dict[str, Any]], words: str, cure: str
) -> None:
    """Each failure of a connection has its own cure, and is passing."""
    del name
    given = block(emu)
    error = failure(emu, **secret(emu), **given)
    assert isinstance(error, TokenUnavailableError)
    assert error.message == f"Entra ID at {given['authority_host']} {words}"
    assert error.cure == cure


def test_a_private_ca_that_is_not_configured(emu: Emulators, tmp_path: Path) -> None:
    """The cure names the key."""
    other = tmp_path / "ca.pem"
    other.write_bytes(Certificate().public)
    error = failure(emu, **secret(emu), ca_bundle=other)
    assert "is not trusted" in error.message
    assert "Set ca_bundle" in error.cure


@pytest.mark.parametrize("kind", ["client_secret", "managed_identity", "azure_cli", "default"])
def test_a_private_ca_whose_file_is_gone(emu: Emulators, tmp_path: Path, kind: str) -> None:
    """It was there at start-up; the cure names the key, the message the file."""
    file = tmp_path / "ca.pem"
    file.write_bytes(Certificate().public)
    keys = {"managed_identity": "system", "azure_cli": True, "default": True}
    block = {kind: keys[kind]} if kind in keys else secret(emu)
    source = credential_source(configured(emu, **block, ca_bundle=file))
    file.unlink()
    with pytest.raises(TokenUnavailableError, match=r"ca\.pem is gone") as caught:
        source(attempt(timeout=10))
    assert "ca_bundle" in caught.value.cure


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.reset(), "cannot be reached: the connection broke"),
        (Fault.truncated(), "cannot be reached: the connection broke"),
        (Fault.not_json(), "an answer of another kind"),
        (Fault.status(404, body="<html>"), "answers with HTTP 404"),
        (Fault.status(407, body=""), "answers with HTTP 407"),
    ],
)
def test_an_answer_that_is_none(emu: Emulators, fault: Fault, words: str) -> None:
    """Something else answers in the service's place, or nothing to the end."""
    emu.entra.fault(fault)
    error = failure(emu, **secret(emu))
    assert isinstance(error, TokenUnavailableError)
    assert words in error.message


@pytest.mark.parametrize("kind", ["client_secret", "managed_identity"])
def test_a_silent_service_is_given_up_within_the_attempt(emu: Emulators, kind: str) -> None:
    """The error says that there was no answer, before the deadline of those who wait."""
    emu.entra.fault(Fault.hang(), on="all")
    emu.imds.fault(Fault.hang())
    block = secret(emu) if kind == "client_secret" else {"managed_identity": "system"}
    began = time.monotonic()
    error = failure(emu, timeout=1.0, **block)
    # azure-identity's own time-outs are minutes, its retries for IMDS more than a minute.
    assert time.monotonic() - began < 20
    assert isinstance(error, TokenUnavailableError)


def test_no_managed_identity_endpoint(emu: Emulators, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, this is not Azure."""
    endpoint = f"http://127.0.0.1:{_free_port()}"
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", endpoint)
    error = failure(emu, managed_identity="system")
    assert isinstance(error, TokenUnavailableError)
    assert error.message == (
        f"The managed-identity endpoint {endpoint} cannot be reached: connection refused"
    )
    assert "Not on Azure?" in error.cure


@pytest.mark.parametrize("status", [400, 404])
def test_a_server_that_is_no_managed_identity_endpoint(emu: Emulators, status: int) -> None:
    """The endpoint answers with JSON; a page of another server says nothing about identities."""
    emu.imds.fault(Fault.status(status, body="<html>"))
    error = failure(emu, managed_identity="system")
    assert error.message == f"The managed-identity endpoint {emu.imds.endpoint} cannot be reached"
    assert "Not on Azure?" in error.cure


def test_a_managed_identity_that_is_not_assigned(emu: Emulators) -> None:
    """The endpoint answers, and does not know it."""
    error = failure(emu, managed_identity={"client_id": "nobody"})
    assert isinstance(error, CredentialRejectedError)
    assert "no managed identity (client_id nobody)" in error.message


@pytest.mark.parametrize(
    ("script", "words", "permanent"),
    [
        ("", "is not installed", False),
        ("echo 'run az login' >&2; exit 1", "is not signed in", False),
        (f"echo '{CANARY}' >&2; exit 1", "gave no token", False),
        (f"echo '{CANARY}'", "gave no token", False),
        ("echo 'AADSTS700082: expired' >&2; exit 1", "AADSTS700082", True),
    ],
)
def test_the_azure_cli_fails(
    emu: Emulators,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    script: str,
    words: str,
    permanent: bool,
) -> None:
    """What az prints is not repeated; only what it means."""
    if script:
        (tmp_path / "az").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    error = failure(emu, azure_cli=True)
    assert words in error.message
    assert error.permanent is permanent


def test_no_way_of_the_default_chain_leads_to_a_token(
    emu: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers: neither environment nor endpoint nor tools."""
    monkeypatch.setenv("PATH", str(tmp_path))
    emu.imds.fault(Fault.status(400))
    error = failure(emu, default=True)
    assert isinstance(error, TokenUnavailableError)
    assert "None of the ways" in error.message


def test_a_wrong_secret_in_the_default_chain(
    emu: Emulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain ends where Entra ID refuses, and its code comes through."""
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", CANARY)
    assert failure(emu, default=True).code == "AADSTS7000215"


def test_a_clock_that_is_wrong_is_said(emu: Emulators, tmp_path: Path) -> None:
    """A certificate's assertion carries our time, so here our clock does matter."""
    certificate = Certificate()
    certified(emu, certificate)
    file = tmp_path / "certificate.pem"
    file.write_bytes(certificate.pem())
    emu.clock = lambda: time.time() + 3600
    error = failure(emu, certificate_path=file)
    assert error.code == "AADSTS700024"
    assert "clock" in str(error)


def test_half_an_answer_is_not_logged_by_anybody(
    emu: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """MSAL writes a body that is no JSON into the log, and half a body can hold a token."""
    emu.entra.fault(Fault.status(200, body=f'{{"access_token": "{CANARY}", "expires_'))
    failure(emu, **secret(emu))
    assert CANARY not in caplog.text


_CALL_IT = "Call the custom credential alone; give each of its requests a timeout"

HANGING = {
    "import": (
        "import release; release.event.wait()",
        "the import of hanging_import has not returned",
        'Run: python -c "import hanging_import"',
    ),
    "factory": (
        "import release; make = release.event.wait",
        "hanging_factory:make() has not returned",
        _CALL_IT,
    ),
    "get_token": (
        "import release\nclass make:\n def get_token(*_): release.event.wait()\n",
        "get_token() of the credential hanging_get_token:make has not returned",
        _CALL_IT,
    ),
}


@pytest.mark.parametrize("step", HANGING)
def test_a_custom_credential_that_hangs_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Neither its import nor its calls concern the network to Entra ID."""
    code, what, cure = HANGING[step]
    (tmp_path / f"hanging_{step}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    release = threading.Event()
    monkeypatch.setitem(sys.modules, "release", SimpleNamespace(event=release))
    block = {"credential": f"hanging_{step}:make", "deadline": 0.2}
    manager = AzureEntraIDManager.isolated(block, random=lambda: 0.0)
    said = []
    for _ in range(3):
        with pytest.raises(TokenUnavailableError) as caught:
            manager.identity().cache.refresh()
        said.append(str(caught.value))
        time.sleep(manager.status()[0].next_attempt or 0)  # a quarter of a second
    release.set()
    for thread in threading.enumerate():
        if thread.name == "lightspeed-azure-token-azure":
            thread.join(10)
    assert said[0] == f"No answer about a token for azure within 0.2 s: {what}. {cure}"
    assert said[2] == f"2 requests for a token for azure hang: {what}. {cure}"
