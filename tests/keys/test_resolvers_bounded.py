"""The transport of the vaults: an exchange ends in time, wherever the server is slow."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from lightspeed_azure.keys.bounded_adapter import bounded_session

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of its answers, byte by byte if it is a slow one."""

    def __init__(self, *answers: tuple[bytes, float]) -> None:
        self.answers = list(answers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.connections = 0
        self.done = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Take connections until the test ends."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    while connection.recv(65536):
                        self.answer(connection)

    def answer(self, connection: socket.socket) -> None:
        """Send one answer."""
        whole, pause = self.answers.pop(0)
        if not pause:
            connection.sendall(whole)
            return
        for byte in whole:
            connection.sendall(bytes([byte]))
            if self.done.wait(pause):
                return


@pytest.fixture(name="serve")
def serve_fixture() -> Iterator[list[Server]]:
    """Servers that end with the test."""
    servers: list[Server] = []
    yield servers
    for each in servers:
        each.done.set()
        each.listener.close()


@pytest.mark.parametrize(
    "slow",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200,
    ],
    ids=["head", "body", "body without a length", "chunks"],
)
@pytest.mark.parametrize("again", [False, True], ids=["new connection", "kept connection"])
def test_bytes_that_trickle_end_at_the_limit(
    serve: list[Server], slow: bytes, *, again: bool
) -> None:
    """Each byte comes in time for a socket's time-out, and the exchange still ends."""
    server = Server(*[(GOOD, 0.0)] * again, (slow, 0.03), (GOOD, 0.0))
    serve.append(server)
    with bounded_session() as session:
        session.trust_env = False
        if again:
            assert session.get(server.url, timeout=5).text == "ok"
        begun = time.monotonic()
        with pytest.raises(requests.ReadTimeout, match="the exchange took too long"):
            session.get(server.url, timeout=0.3)
        assert time.monotonic() - begun < 10  # the whole answer takes half a minute
        assert session.get(server.url, timeout=5).text == "ok"
    assert server.connections == 2


def test_a_connection_is_kept_and_other_failures_are_as_before(serve: list[Server]) -> None:
    """Two good answers over one connection; a server that is not there is a ConnectionError."""
    server = Server((GOOD, 0.0), (GOOD, 0.0))
    serve.append(server)
    with bounded_session() as session:
        session.trust_env = False
        assert [session.get(server.url, timeout=5).text for _ in range(2)] == ["ok", "ok"]
        assert server.connections == 1
        server.listener.close()
    with bounded_session() as session:
        session.trust_env = False
        with pytest.raises(requests.ConnectionError):
            session.get("http://127.0.0.1:9/", timeout=5)
