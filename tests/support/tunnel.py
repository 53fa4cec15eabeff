"""A proxy whose every tunnel leads to one place, whatever name was asked for."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Tunnels(socketserver.ThreadingTCPServer):
    """Opens tunnels (RFC 9110, 9.3.6) to a port of the loopback interface.

    Args:
        port: where they lead.

    Attributes:
        asked: the targets that were asked for.
    """

    daemon_threads = True
    request_queue_size = 512  # a crowd comes at once

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.port = port
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """What belongs into HTTPS_PROXY."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Tunnels

    def handle(self) -> None:
        _, target, _ = self.rfile.readline().decode().split(" ")
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(target)
        self.wfile.write(b"HTTP/1.1 200 Told\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.port)) as there:
            ways = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select([*ways], [], [])[0]:
                    try:
                        data = ready.recv(65536)
                    except ConnectionError:
                        return
                    if not data:
                        return
                    ways[ready].sendall(data)


@contextmanager
def tunnels(port: int) -> Iterator[Tunnels]:
    """Open tunnels to a port until the block ends."""
    with Tunnels(port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
