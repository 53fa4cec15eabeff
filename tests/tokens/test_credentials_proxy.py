"""Proxies, as azure-core honours them: through HTTPS_PROXY, unless NO_PROXY names the authority."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from signing_in import (
    attempt,
    configured,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import TokenUnavailableError
from lightspeed_azure.tokens.entra import credential_source

pytestmark = pytest.mark.integration


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy that opens tunnels (RFC 9110, 9.3.6), or refuses to with the status it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.status = 200
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """What belongs into HTTPS_PROXY."""
        return f"http://proxy-user:pr0xy-s3cret@127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split(" ")
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(f"{method} {target}")
        self.wfile.write(f"HTTP/1.1 {self.server.status} Told\r\n\r\n".encode())
        if self.server.status != 200:
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            ways = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select([*ways], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ways[ready].sendall(data)


@pytest.fixture(name="proxy")
def _proxy(emu: Emulators, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Yield a proxy that the environment names."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy
        proxy.shutdown()
        thread.join()


def test_a_proxy_is_used(emu: Emulators, proxy: Proxy) -> None:
    """The tunnel leads to the authority, whose private CA is still what counts."""
    config = configured(emu, client_secret=emu.entra.application.client_secret)
    assert credential_source(config)(attempt()).secret
    assert set(proxy.asked) == {f"CONNECT {emu.entra.authority.removeprefix('https://')}"}


def test_no_proxy_is_honoured(
    emu: Emulators, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NO_PROXY names is asked directly."""
    monkeypatch.setenv("NO_PROXY", "localhost")
    config = configured(emu, client_secret=emu.entra.application.client_secret)
    assert credential_source(config)(attempt()).secret
    assert proxy.asked == []


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_said(emu: Emulators, proxy: Proxy, status: int) -> None:
    """It is passing, names the variables, and not the password that stands in one of them."""
    proxy.status = status
    config = configured(emu, client_secret=emu.entra.application.client_secret)
    with pytest.raises(TokenUnavailableError) as caught:
        credential_source(config)(attempt())
    assert caught.value.message == (
        f"Entra ID at {emu.entra.authority} cannot be reached: the HTTP proxy does not connect"
    )
    assert caught.value.cure == "Check HTTPS_PROXY and NO_PROXY"
    assert caught.value.link
    assert "pr0xy-s3cret" not in repr(caught.value)
