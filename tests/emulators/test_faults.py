"""What each fault looks like from the other end of the wire."""

import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential

from lightspeed_azure.emulators import Emulators, Fault

RESOURCE = "https://cognitiveservices.azure.com"
SCOPE = f"{RESOURCE}/.default"


@pytest.fixture
def client(azure_emulators: Emulators) -> Iterator[httpx.Client]:
    """A client of Azure OpenAI that keeps its connections."""
    token = azure_emulators.entra.issue(resource=RESOURCE).value
    with httpx.Client(
        base_url=azure_emulators.azure.base_url, headers={"Authorization": f"Bearer {token}"}
    ) as client:
        yield client


def test_a_status_with_its_own_body(azure_emulators: Emulators, client: httpx.Client) -> None:
    """Status, Retry-After and body are what was asked for; without a body it is the service's."""
    azure = azure_emulators.azure
    azure.fault(
        Fault.status(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", body="gone fishing"), times=1
    )
    azure.fault(Fault.status(500, retry_after=1.2), times=1)
    first, second, third = (client.get("/models") for _ in range(3))
    assert (first.status_code, first.text) == (503, "gone fishing")
    assert first.headers["retry-after"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert (second.status_code, second.headers["retry-after"]) == (500, "2")
    assert second.json()["error"]["code"] == "500"
    assert third.status_code == 200


def test_faults_strike_in_turn_until_cleared(
    azure_emulators: Emulators, client: httpx.Client
) -> None:
    """A fault without a number strikes until it is cleared."""
    azure = azure_emulators.azure
    azure.fault(Fault.status(503), times=2)
    azure.fault(Fault.status(500))
    statuses = [client.get("/models").status_code for _ in range(5)]
    azure.clear_faults()
    assert [*statuses, client.get("/models").status_code] == [503, 503, 500, 500, 500, 200]
    with pytest.raises(ValueError, match="times must be 1 or more"):
        azure.fault(Fault.hang(), times=0)


def test_delay(azure_emulators: Emulators, client: httpx.Client) -> None:
    """The answer is honest, and late."""
    azure_emulators.azure.fault(Fault.delay(0.2), times=1)
    before = time.monotonic()
    assert client.get("/models").status_code == 200
    assert time.monotonic() - before >= 0.2


def test_hang(azure_emulators: Emulators, client: httpx.Client) -> None:
    """No answer comes; another client is served meanwhile."""
    azure_emulators.azure.fault(Fault.hang(), times=1)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/models", timeout=0.2)
    assert client.get("/models").status_code == 200


def test_reset(azure_emulators: Emulators) -> None:
    """The connection is reset, not merely closed."""
    azure_emulators.imds.fault(Fault.reset(), times=1)
    address = urlsplit(azure_emulators.imds.endpoint)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), 5) as raw:
        raw.sendall(b"GET /metadata/identity/oauth2/token HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


def test_truncated(azure_emulators: Emulators, client: httpx.Client) -> None:
    """Less comes than was announced."""
    azure_emulators.azure.fault(Fault.truncated(), times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.get("/models")
    assert client.get("/models").status_code == 200


def test_not_json(azure_emulators: Emulators, client: httpx.Client) -> None:
    """200, and a page of HTML."""
    azure_emulators.azure.fault(Fault.not_json(), times=1)
    answer = client.get("/models")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


def test_drip(azure_emulators: Emulators, client: httpx.Client) -> None:
    """The body is honest and comes a byte at a time, so that no read waits long."""
    azure_emulators.azure.fault(Fault.drip(0.0005), times=1)
    dripped = client.get("/models", timeout=0.1)
    assert dripped.json() == client.get("/models").json()


def test_drip_outlives_a_socket_timeout(azure_emulators: Emulators, client: httpx.Client) -> None:
    """The whole takes longer than the time-out of a read, and nobody complains."""
    azure_emulators.azure.fault(Fault.drip(0.002), times=1)
    before = time.monotonic()
    assert client.get("/models", timeout=0.15).status_code == 200
    assert time.monotonic() - before > 0.3


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.status(429, retry_after=5), "HTTP Error: 429|AADSTS90033"),
        (Fault.status(500), "HTTP Error: 500"),
        (Fault.reset(), "Connection aborted|ConnectionResetError|[Cc]onnection"),
        (Fault.truncated(), "IncompleteRead|Connection broken|Response|Expecting|Unterminated"),
        (Fault.not_json(), "Expecting value|Response"),
        (Fault.hang(), "timed out"),
    ],
    ids=lambda value: value.outcome if isinstance(value, Fault) else "",
)
def test_azure_identity_meets_each_fault(
    azure_emulators: Emulators, fault: Fault, text: str
) -> None:
    """The real credential fails on each, within its time-out, without our help."""
    entra = azure_emulators.entra
    entra.fault(fault)
    application = entra.application
    with (
        ClientSecretCredential(
            application.tenant_id,
            application.client_id,
            application.client_secret.get_secret_value(),
            authority=entra.authority,
            disable_instance_discovery=True,
            connection_verify=str(azure_emulators.ca_bundle),
            retry_total=0,
            connection_timeout=0.3,
            read_timeout=0.3,
        ) as mine,
        pytest.raises(ClientAuthenticationError, match=text),
    ):
        mine.get_token(SCOPE)
    requests = entra.requests
    if fault.kind == "truncated":
        assert requests.issued == requests.requested
    else:
        assert dict(requests.by_outcome) == {fault.outcome: requests.requested}
        assert requests.issued == 0


def test_a_hanging_request_does_not_outlive_its_client(azure_emulators: Emulators) -> None:
    """Many clients may come, hang and go; the servers still answer."""
    azure_emulators.imds.fault(Fault.hang(), times=20)
    url = f"{azure_emulators.imds.endpoint}/metadata/identity/oauth2/token"

    def hang() -> None:
        with pytest.raises(httpx.TimeoutException):
            httpx.get(url, timeout=0.2)

    threads = [threading.Thread(target=hang) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert httpx.get(url).status_code == 400
    assert azure_emulators.imds.requests.requested == 21
