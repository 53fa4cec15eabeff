"""All three emulators together: start, stop, reset, and what nobody may read."""

import logging
import os
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from lightspeed_azure.emulators import Application, Emulators, Fault, FederatedCredential

RESOURCE = "https://cognitiveservices.azure.com"


def descriptors() -> set[str]:
    """Return what the open file descriptors lead to."""
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.add(f"{entry.name}:{entry.readlink()}")
        except FileNotFoundError:  # the one that lists the directory
            continue
    return links


def token_request(emu: Emulators) -> httpx.Response:
    """Ask Entra ID for a token as a client that trusts the bundle."""
    context = ssl.create_default_context(cafile=str(emu.ca_bundle))
    application = emu.entra.application
    return httpx.post(
        f"{emu.entra.authority}/{application.tenant_id}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": application.client_id,
            "client_secret": application.client_secret.get_secret_value(),
            "scope": f"{RESOURCE}/.default",
        },
        verify=context,
    )


def test_stop_leaves_nothing() -> None:
    """No thread, socket or directory is left, whatever hung at the time."""
    with Emulators():
        pass  # whatever is made once a process is made now
    threads, open_files = threading.active_count(), descriptors()
    with Emulators() as emu:
        directory = emu.ca_bundle.parent
        url = f"{emu.imds.endpoint}/metadata/identity/oauth2/token"
        emu.imds.fault(Fault.hang())
        arrived = threading.Event()
        failures: list[Exception] = []

        def hang() -> None:
            try:
                with httpx.stream("GET", url, timeout=30):
                    pass
            except httpx.HTTPError as error:
                failures.append(error)
            arrived.set()

        client = threading.Thread(target=hang)
        client.start()
        while not emu.imds.requests.requested:
            time.sleep(0.001)
        before = time.monotonic()
    assert time.monotonic() - before < 1
    client.join(5)
    assert arrived.is_set()
    assert len(failures) == 1
    assert threading.active_count() == threads
    assert descriptors() == open_files
    assert not directory.exists()
    for url in (emu.entra.authority, emu.imds.endpoint, emu.azure.endpoint):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(urlsplit(url).port or 0)), 1)


def test_a_taken_port_leaves_nothing() -> None:
    """The error names the cause; no thread is left, and the emulators can be started elsewhere."""
    threads = threading.active_count()
    with Emulators() as first:
        second = Emulators(azure_port=int(urlsplit(first.azure.endpoint).port or 0))
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()
    assert threading.active_count() == threads
    with second:
        assert httpx.get(second.azure.endpoint).status_code == 401


async def test_async_use_and_restart() -> None:
    """The emulators start in a coroutine, and start again after they were stopped."""
    emu = Emulators()
    for _ in range(2):
        async with emu as same:
            assert same is emu
            async with httpx.AsyncClient() as client:
                assert (await client.get(emu.azure.base_url)).status_code == 401
    with emu.start(), pytest.raises(RuntimeError, match="running already"):
        emu.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emu.ca_bundle


def test_only_the_authority_lies_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is the owner's alone and holds one certificate, no key."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Emulators() as emu:
        assert stat.S_IMODE(emu.ca_bundle.parent.stat().st_mode) == 0o700
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files == [emu.ca_bundle]
        text = emu.ca_bundle.read_text()
    assert text.count("BEGIN") == 1
    assert "PRIVATE" not in text
    assert list(tmp_path.iterdir()) == []


def test_the_certificate_is_for_every_name_of_the_loopback(azure_emulators: Emulators) -> None:
    """localhost, 127.0.0.1 and, where there is one, ::1; and nobody trusts it without the bundle."""
    port = int(urlsplit(azure_emulators.entra.authority).port or 0)
    context = ssl.create_default_context(cafile=str(azure_emulators.ca_bundle))
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", port), 5) as raw,
            context.wrap_socket(raw, server_hostname=name) as wrapped,
        ):
            assert wrapped.version() in {"TLSv1.2", "TLSv1.3"}
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def test_the_environment_leads_to_the_emulators(azure_emulators: Emulators) -> None:
    """Every name that azure-identity and we read is there."""
    environment = azure_emulators.environment()
    assert sorted(environment) == [
        "AZURE_API_BASE",
        "AZURE_AUTHORITY_CA_BUNDLE",
        "AZURE_AUTHORITY_HOST",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "AZURE_TENANT_ID",
    ]
    assert environment["AZURE_API_BASE"] == azure_emulators.azure.base_url
    assert environment["AZURE_API_BASE"].endswith("/openai/v1")


def test_reset_is_a_new_start(azure_emulators: Emulators) -> None:
    """After a reset nothing of before works or shows, on the same ports."""
    emu = azure_emulators
    old = emu.entra.issue(resource=RESOURCE).value
    before = (emu.environment(), emu.imds.identities)
    emu.entra.fault(Fault.status(503))
    emu.azure.deployments = ()
    emu.azure.revoke_all_issued_before_now()
    emu.clock = lambda: 0.0
    application = emu.entra.application
    emu.reset(token_lifetime=60.0)
    after = emu.environment()
    emu.entra.register(application)  # its tenant counts as an issuer again, its tokens do not
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        assert before[0].pop(name) != after.pop(name)
    assert before[0] == after
    assert before[1] != emu.imds.identities
    answer = token_request(emu).json()
    assert answer["expires_in"] == 60
    statuses = [
        httpx.get(f"{emu.azure.base_url}/models", headers={"Authorization": f"Bearer {token}"})
        for token in (old, answer["access_token"])
    ]
    assert [each.status_code for each in statuses] == [401, 200]
    assert dict(emu.azure.requests.by_reason) == {"bad signature": 1}
    assert emu.azure.requests.total == 2


def test_two_suites_do_not_accept_each_others_tokens(azure_emulators: Emulators) -> None:
    """They share key material in one process, and still are strangers."""
    with Emulators() as other:
        ours = azure_emulators.entra.application
        other.entra.register(ours)  # even a tenant of the same name does not help
        token = other.entra.issue(resource=RESOURCE, application=ours).value
        for azure, status in ((other.azure, 200), (azure_emulators.azure, 401)):
            header = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{azure.base_url}/models", headers=header).status_code == status
    assert dict(azure_emulators.azure.requests.by_reason) == {"bad signature": 1}


def test_snapshots_do_not_change(azure_emulators: Emulators) -> None:
    """What was read before a request is not touched by it, and cannot be written to."""
    before = azure_emulators.entra.requests
    token_request(azure_emulators)
    assert before.requested == 0
    assert dict(before.by_outcome) == {}
    with pytest.raises(TypeError):
        before.by_outcome["200"] = 1  # type: ignore[index]


def test_many_clients_at_once(azure_emulators: Emulators) -> None:
    """Concurrent requests are all answered and all counted."""
    token = azure_emulators.entra.issue(resource=RESOURCE).value
    header = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=azure_emulators.azure.base_url, headers=header) as client:
        threads = [
            threading.Thread(target=lambda: [client.get("/models") for _ in range(10)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert azure_emulators.azure.requests.accepted == 80


def test_no_repr_and_no_log_shows_a_secret(
    azure_emulators: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """Not of the emulators, not of an application, not of a token, not of a request."""
    emu = azure_emulators
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.INFO)
    emu.entra.fault(Fault.truncated(), times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        token_request(emu)
    token = token_request(emu).json()["access_token"]
    httpx.get(f"{emu.azure.base_url}/models", headers={"Authorization": f"Bearer {token}"})
    issued = emu.entra.issue(resource=RESOURCE)
    secret = emu.entra.application.client_secret.get_secret_value()
    application = Application(
        tenant_id="t",
        secrets=["s3cret"],
        federated=[FederatedCredential("issuer", "subject", key="the-key")],
    )
    shown = " ".join(
        [
            *(repr(each) for each in (emu, emu.entra, emu.imds, emu.azure, issued, application)),
            *(repr(each) for each in (emu.entra.application, emu.entra.application.secrets)),
            *(repr(each.requests) for each in (emu.entra, emu.imds, emu.azure)),
            *(repr(each) for each in (application.secrets, application.federated)),
            repr(Fault.status(500, body="s3cret")),
            caplog.text,
        ]
    )
    for hidden in (secret, token, issued.value, token.rpartition(".")[2], "s3cret", "the-key"):
        assert hidden not in shown


def test_importing_is_light() -> None:
    """The package and the pytest plug-in import neither aiohttp nor cryptography nor PyJWT."""
    code = (
        "import sys, lightspeed_azure.emulators, lightspeed_azure.emulators.pytest_plugin;"
        "print([name for name in ('aiohttp', 'cryptography', 'jwt', 'pydantic') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted, complete and importable."""
    from lightspeed_azure import emulators

    assert sorted(emulators.__all__) == list(emulators.__all__)
    for name in emulators.__all__:
        assert getattr(emulators, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = emulators.Nothing
