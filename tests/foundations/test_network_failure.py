"""Failures of the network in words, from the exceptions of the real HTTP libraries."""

import asyncio
import errno
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests

from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.network_failure import NetworkFailure, network_failure, shown

type Ask = Callable[[str, str | None], None]


def by_httpx(url: str, proxy: str | None) -> None:
    """Ask with httpx."""
    with httpx.Client(timeout=0.5, trust_env=False, proxy=proxy) as client:
        client.get(url)


def by_httpx_async(url: str, proxy: str | None) -> None:
    """Ask with httpx on an event loop."""

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=0.5, trust_env=False, proxy=proxy) as client:
            await client.get(url)

    asyncio.run(ask())


def by_httpx2(url: str, proxy: str | None) -> None:
    """Ask with httpx2."""
    with httpx2.Client(timeout=0.5, trust_env=False, proxy=proxy) as client:
        client.get(url)


def by_requests(url: str, proxy: str | None) -> None:
    """Ask with requests, as MSAL, hvac and azure-core do."""
    session = requests.Session()
    session.trust_env = False
    with session:
        session.get(url, timeout=0.5, proxies={"http": proxy, "https": proxy} if proxy else None)


def by_aiohttp(url: str, proxy: str | None) -> None:
    """Ask with aiohttp."""

    async def ask() -> None:
        limit = aiohttp.ClientTimeout(total=0.5)
        async with aiohttp.ClientSession(timeout=limit) as session:
            await session.get(url, proxy=proxy)

    asyncio.run(ask())


def by_azure_core(url: str, proxy: str | None) -> None:
    """Ask with azure-core's transport, as azure-identity does."""
    from azure.core.pipeline.transport import RequestsTransport
    from azure.core.rest import HttpRequest

    with RequestsTransport(use_env_settings=False) as transport:
        request = HttpRequest("GET", url)
        proxies = {"proxies": {"http": proxy, "https": proxy}} if proxy else {}
        transport.send(request, connection_timeout=0.5, read_timeout=0.5, **proxies)


LIBRARIES = [by_httpx, by_httpx_async, by_httpx2, by_requests, by_aiohttp, by_azure_core]


@contextmanager
def listening(serve: Callable[[socket.socket], None] | None) -> Iterator[int]:
    """Listen on a free port until the block ends; each connection goes to `serve`."""
    server = socket.create_server(("127.0.0.1", 0))
    open_: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                open_.append(connection)
                if serve:
                    with suppress(OSError):
                        serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in open_:
            connection.close()


def reset(connection: socket.socket) -> None:
    """Read the request, then abort the connection with RST."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang_up(connection: socket.socket) -> None:
    """Read the request, then close the connection without an answer."""
    connection.recv(65536)
    connection.close()


def speak_plainly(connection: socket.socket) -> None:
    """Answer a TLS greeting with plain HTTP."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def caught(ask: Ask, url: str, proxy: str | None = None) -> NetworkFailure | None:
    """Return what a failed request is translated to."""
    with pytest.raises(Exception) as error:  # noqa: PT011 - each library has its own classes
        ask(url, proxy)
    assert url.rpartition(":")[2] not in str(network_failure(error.value))
    return network_failure(error.value)


@pytest.mark.parametrize("ask", LIBRARIES)
def test_each_library_gives_the_same_words(ask: Ask) -> None:
    """Refused, unknown name, silence, reset and hang-up: the same kind, whatever the library."""
    with listening(None) as port:
        silent = caught(ask, f"http://127.0.0.1:{port}/")
    assert silent == NetworkFailure("timeout", "no answer in time")
    refused = caught(ask, f"http://127.0.0.1:{port}/")
    assert refused == NetworkFailure("refused", "connection refused")
    unknown = caught(ask, "http://no-such-host.invalid/")
    assert unknown == NetworkFailure("name", "the name does not resolve")
    for serve in (reset, hang_up):
        with listening(serve) as port:
            broken = caught(ask, f"http://127.0.0.1:{port}/")
        assert broken == NetworkFailure("reset", "the connection broke")


@pytest.mark.parametrize("ask", LIBRARIES)
def test_tls_that_fails_is_told_apart(ask: Ask) -> None:
    """A certificate of an unknown issuer and a port without TLS are two failures."""
    with listening(speak_plainly) as port:
        plain = caught(ask, f"https://127.0.0.1:{port}/")
    assert plain == NetworkFailure("tls", "no TLS connection")
    context = CertificateAuthority().server_context("127.0.0.1")

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with listening(serve) as port:
        untrusted = caught(ask, f"https://127.0.0.1:{port}/")
    assert untrusted is not None
    assert untrusted.kind == "certificate"
    assert untrusted.words.startswith("its certificate is not trusted")


@pytest.mark.parametrize("ask", [ask for ask in LIBRARIES if ask is not by_azure_core])
def test_a_proxy_that_is_down_is_named(ask: Ask) -> None:
    """The proxy is what fails, not the host behind it."""
    with listening(None) as port:
        pass
    failure = caught(ask, "https://127.0.0.1:9/", f"http://127.0.0.1:{port}")
    assert failure is not None
    assert failure.kind in ("proxy", "refused")


def test_what_is_no_network_failure_is_none() -> None:
    """A mistake of a program is not called a network failure."""
    assert network_failure(ValueError("x")) is None
    assert network_failure(KeyError("x")) is None


def test_a_file_that_is_missing_is_no_network_failure(tmp_path: Path) -> None:
    """An OSError that names a file is told apart from one of a socket."""
    with pytest.raises(OSError, match="No such file") as missing:
        (tmp_path / "az").read_bytes()
    assert network_failure(missing.value) is None
    unreachable = network_failure(OSError(errno.ENETUNREACH, "Network is unreachable"))
    assert unreachable == NetworkFailure("unreachable", "no connection")


def test_cures_name_the_keys() -> None:
    """The cure depends on what failed, and names the caller's own keys."""
    keys: dict[str, Any] = {"url_key": "llama_stack.url", "ca_key": "llama_stack.ca_bundle"}
    expired = NetworkFailure("certificate", "", "certificate has expired")
    assert expired.cure(**keys) == "Renew the certificate, and check this machine's clock"
    named = NetworkFailure(
        "certificate", "", "Hostname mismatch, certificate is not valid for 'x'."
    )
    assert named.cure(**keys) == "Use a name in llama_stack.url that the certificate is for"
    unknown = NetworkFailure("certificate", "", "unable to get local issuer certificate")
    assert unknown.cure(**keys) == (
        "A private CA, or a proxy that inspects TLS? Set llama_stack.ca_bundle to its certificates"
    )
    assert NetworkFailure("timeout", "").cure(**keys, proxy=False) == (
        "Check llama_stack.url and firewalls"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:secret@host:8443/path?token=secret#x", "https://host:8443/path"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("https://host:port/", "the URL"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, expected: str) -> None:
    """User name, password, query and fragment are left out."""
    assert shown(url) == expected
