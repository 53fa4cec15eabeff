"""Each way to sign in, through the real azure-identity, against the emulators."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from entra_material import Certificate, assertion
from pydantic import SecretStr
from signing_in import (
    CANARY,
    attempt,
    certified,
    configured,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    federated,
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import InvalidConfigurationError, TokenError, TokenUnavailableError
from lightspeed_azure.tokens.entra import CredentialSource, credential_source

pytestmark = pytest.mark.integration


def test_a_client_secret(emu: Emulators) -> None:
    """A secret in the block signs in; the private CA of the block beats REQUESTS_CA_BUNDLE."""
    source = credential_source(configured(emu, client_secret=emu.entra.application.client_secret))
    token = source(attempt())
    assert 3595 < token.expires_in <= 3600
    assert emu.entra.requests.by_grant == {"client_secret": 1}
    assert source.kind == "client_secret"


def test_the_private_ca_beats_the_environments(
    emu: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests would read its CA from these variables."""
    other = tmp_path / "other.pem"
    other.write_bytes(Certificate().public)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(other))
    config = configured(emu, client_secret=emu.entra.application.client_secret)
    assert credential_source(config)(attempt()).secret


def test_a_client_secret_in_a_file(emu: Emulators, tmp_path: Path) -> None:
    """The file is read at each sign-in, so each asks Entra ID."""
    secret = emu.entra.application.client_secret.get_secret_value()
    (tmp_path / "client_secret").write_text(secret + "\n")
    source = credential_source(configured(emu, client_secret_path=tmp_path))
    tokens = {source(attempt()).secret.get_secret_value() for _ in range(2)}
    assert len(tokens) == 2
    assert emu.entra.requests.by_grant == {"client_secret": 2}


@pytest.mark.parametrize("password", [None, CANARY])
@pytest.mark.parametrize("form", ["pem", "pfx"])
@pytest.mark.parametrize("chain", [True, False])
def test_a_certificate(
    emu: Emulators, tmp_path: Path, form: str, password: str | None, chain: bool
) -> None:
    """PEM and PFX, with and without a password and the chain, are verified by their signature."""
    certificate = Certificate()
    certified(emu, certificate)
    file = tmp_path / f"certificate.{form}"
    file.write_bytes(getattr(certificate, form)(password))
    config = configured(
        emu,
        certificate_path=file,
        certificate_password=password,
        send_certificate_chain=chain,
    )
    source = credential_source(config)
    assert 3595 < source(attempt()).expires_in <= 3600
    assert emu.entra.requests.by_grant == {"certificate": 1}
    assert CANARY not in source.describe()


def test_a_federated_assertion(emu: Emulators, tmp_path: Path) -> None:
    """A cluster's service account signs in; its token is read anew each time."""
    federated(emu)
    (tmp_path / "azure-identity-token").write_text(assertion())
    source = credential_source(configured(emu, federated_token_file=tmp_path))
    source(attempt())
    (tmp_path / "azure-identity-token").write_text(assertion(sub="someone else"))
    with pytest.raises(TokenError, match="expects another subject") as caught:
        CredentialSource(configured(emu, federated_token_file=tmp_path))(attempt())
    assert caught.value.code == "AADSTS700213"
    assert emu.entra.requests.by_grant == {"federated": 1}


def test_the_machines_own_managed_identity(emu: Emulators, monkeypatch: pytest.MonkeyPatch) -> None:
    """`system` is the machine's, whatever AZURE_CLIENT_ID and workload identity's variables say."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", emu.entra.authority)
    source = credential_source(configured(emu, managed_identity="system"))
    assert 3595 < source(attempt()).expires_in <= 3600
    (own,) = (each for each in emu.imds.identities if each.system)
    assert emu.imds.requests.by_identity == {own.client_id: 1}


@pytest.mark.parametrize("key", ["client_id", "object_id", "resource_id"])
def test_an_assigned_managed_identity(emu: Emulators, key: str) -> None:
    """It can be asked for by any of its three names."""
    (assigned,) = (each for each in emu.imds.identities if not each.system)
    config = configured(emu, managed_identity={key: getattr(assigned, key)})
    credential_source(config)(attempt())
    assert emu.imds.requests.by_identity == {assigned.client_id: 1}


def test_a_managed_identity_asks_past_its_cache_for_another_token(emu: Emulators) -> None:
    """Who has a token already and asks again wants to hear the endpoint, not MSAL's memory."""
    source = credential_source(configured(emu, managed_identity="system"))
    first = source(attempt())
    assert source(attempt()).secret == first.secret
    assert emu.imds.requests.requested == 1
    emu.imds.renewal_margin = 0.0
    emu.clock = lambda: time.time() + 3601
    assert source(attempt(first.secret)).secret != first.secret
    assert emu.imds.requests.requested == 2


AZ = """#!{python}
import json, sys, time
assert sys.argv[1:3] == ["account", "get-access-token"], sys.argv
print(json.dumps({{"accessToken": "{token}", "expires_on": int(time.time()) + 1800}}))
"""


def test_the_azure_cli(emu: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own sign-in is used; `az` here is a stand-in with az's output."""
    import sys

    (tmp_path / "az").write_text(AZ.format(python=sys.executable, token="from-az"))
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    token = credential_source(configured(emu, azure_cli=True))(attempt())
    assert token.secret == SecretStr("from-az")
    assert 1795 < token.expires_in <= 1800


def test_the_default_chain(emu: Emulators, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the environment first, with the private authority and its CA."""
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    credential_source(configured(emu, default=True))(attempt())
    assert emu.entra.requests.by_grant == {"client_secret": 1}
    for name in ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_ID"):
        monkeypatch.delenv(name)
    credential_source(configured(emu, default=True))(attempt())
    assert emu.imds.requests.requested >= 1


class Foreign:
    """A credential of somebody else's, old style."""

    def get_token(self, *scopes: str, **_: object) -> SimpleNamespace:
        """Return a token that lives for ten minutes."""
        return SimpleNamespace(token=f"for {scopes[0]}", expires_on=time.time() + 600)


class ForeignInfo(Foreign):
    """A credential of somebody else's, new style."""

    def get_token_info(self, *scopes: str, **_: object) -> SimpleNamespace:
        """Return a token that wants to be renewed after five minutes."""
        now = time.time()
        return SimpleNamespace(token=scopes[0], expires_on=now + 600, refresh_on=now + 300)


class Broken(Foreign):
    """A credential that fails with a secret in its text."""

    def get_token(self, *scopes: str, **_: object) -> SimpleNamespace:
        """Fail."""
        raise RuntimeError(f"{CANARY} {scopes}")


class Refused(Foreign):
    """A credential whose own service refuses the connection."""

    def get_token(self, *_: str, **__: object) -> SimpleNamespace:
        """Fail as a socket does."""
        raise ConnectionRefusedError(CANARY)


def not_a_credential() -> str:
    """Return something else."""
    return CANARY


def failing_factory() -> Foreign:
    """Fail with a secret in the text."""
    raise OSError(CANARY)


@pytest.fixture(name="foreign")
def _foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], CredentialSource]:
    """Return a function that configures one of the classes above by name."""
    import sys

    monkeypatch.setitem(sys.modules, "somebody.credentials", sys.modules[__name__])
    monkeypatch.setitem(sys.modules, "somebody", SimpleNamespace())

    def make(name: str) -> CredentialSource:
        return credential_source(
            AzureEntraIdConfiguration(environ={}, credential=f"somebody.credentials:{name}")
        )

    return make


def test_a_foreign_credential(foreign: Callable[[str], CredentialSource]) -> None:
    """Any TokenCredential will do; the newer method keeps `refresh_on`."""
    token = foreign("Foreign")(attempt())
    assert token.secret.get_secret_value() == "for https://cognitiveservices.azure.com/.default"
    assert 595 < token.expires_in <= 600.5
    assert token.refresh_in is None
    refresh_in = foreign("ForeignInfo")(attempt()).refresh_in
    assert refresh_in is not None
    assert 295 < refresh_in <= 300.5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Broken", "failed with RuntimeError"),
        ("Refused", "failed with ConnectionRefusedError (connection refused)"),
    ],
)
def test_a_foreign_credential_that_fails_is_named_by_its_class_alone(
    foreign: Callable[[str], CredentialSource], name: str, words: str
) -> None:
    """Its text may hold anything, so nothing of it is repeated; Entra ID is not blamed."""
    with pytest.raises(TokenUnavailableError) as caught:
        foreign(name)(attempt())
    assert caught.value.message == f"The credential somebody.credentials:{name} {words}"
    assert caught.value.cure == "Call the custom credential alone"
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("not_a_credential", "makes no TokenCredential"),
        ("failing_factory", "fails with OSError"),
        ("absent", "has no absent"),
    ],
)
def test_a_factory_that_makes_no_credential_is_a_configuration_error(
    foreign: Callable[[str], CredentialSource], name: str, words: str
) -> None:
    """The name of the factory is told, and not what it said."""
    with pytest.raises(InvalidConfigurationError, match=words) as caught:
        foreign(name)(attempt())
    assert CANARY not in repr(caught.value)


def test_a_module_that_is_not_there_is_a_configuration_error() -> None:
    """The message names the module."""
    source = credential_source(AzureEntraIdConfiguration(environ={}, credential="no_such.module:f"))
    with pytest.raises(InvalidConfigurationError, match="there is no module no_such"):
        source(attempt())


def test_the_log_says_which_credential_was_chosen(
    emu: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, without the secret."""
    caplog.set_level(logging.INFO, logger="lightspeed_azure")
    credential_source(configured(emu, client_secret=CANARY))
    credential_source(configured(emu, managed_identity="system"))
    assert "Tokens come from client_secret, application" in caplog.text
    assert "Tokens come from managed identity (system)" in caplog.text
    assert CANARY not in caplog.text


def test_a_warm_up_returns_at_once_and_leaves_a_daemon(emu: Emulators) -> None:
    """It may be called from an event loop, and never keeps the process alive."""
    source = credential_source(configured(emu, managed_identity="system"))
    source.warm_up()
    assert source(attempt()).secret


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("kind", ["client_secret", "managed_identity"])
def test_an_hours_error_of_our_clock_does_not_matter(emu: Emulators, kind: str, hours: int) -> None:
    """What remains of a token is what the issuer says, not what our clock makes of it."""
    emu.clock = lambda: time.time() + hours * 3600
    emu.entra.token_lifetime = 900.0
    block: dict[str, Any] = {"managed_identity": "system"}
    if kind == "client_secret":
        block = {"client_secret": emu.entra.application.client_secret}
    token = credential_source(configured(emu, **block))(attempt())
    assert 895 < token.expires_in <= 900


@pytest.fixture(name="app_service")
def _app_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Yield App Service's endpoint, which names nothing but an absolute end by its own clock."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    state = SimpleNamespace(hours=0, requests=0)

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + state.hours * 3600)

        def do_GET(self) -> None:
            state.requests += 1
            end = int(time.time() + state.hours * 3600 + 600)
            body = json.dumps(
                {"access_token": "t", "expires_on": str(end), "resource": "r", "token_type": "B"}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_an_absolute_end_is_read_by_the_issuers_clock(
    app_service: SimpleNamespace, hours: int
) -> None:
    """The `Date` of the answer tells what the issuer's clock says."""
    app_service.hours = hours
    config = AzureEntraIdConfiguration(environ={}, managed_identity="system")
    token = credential_source(config)(attempt())
    assert 595 < token.expires_in <= 601
    assert app_service.requests == 1
