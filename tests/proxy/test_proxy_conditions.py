"""What makes the proxy's condition say that the stack cannot be reached, and what does not."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from entra_material import Certificate
from fake_stack import COMPLETION, serving, stack
from proxying import CHAT, QUESTION, Recording, caller, in_front_of, proxying, signed_in

from lightspeed_azure.proxy.proxy import Proxy

READY = ("True", "Ready")


async def condition(proxy: Proxy) -> tuple[str, str]:
    """Return the status of LLMProxyReady, and its reason."""
    async with httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False) as admin:
        (found,) = (
            each
            for each in (await admin.get("/status")).json()["conditions"]
            if each["type"] == "LLMProxyReady"
        )
    return found["status"], found["reason"]


async def parts(number: int) -> AsyncIterator[bytes]:
    """Yield a body without saying its length before."""
    for _ in range(number):
        yield b"x" * 1000


async def test_what_one_caller_does_is_not_the_stacks_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An upload that is too large, stands still or is left off: the stack counts as reachable."""
    async with (
        in_front_of(Recording(), upload_limit=2048, idle_timeout=0.3) as proxy,
        caller(proxy) as http,
    ):
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        assert await condition(proxy) == READY
        answer = await http.post("/v1/files", content=parts(40))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        text = "The body has more than 2048 bytes, the limit in proxy.upload_limit"
        assert answer.json()["error"]["message"] == text
        assert await condition(proxy) == READY

        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
        assert await condition(proxy) == READY

        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        while not proxy.in_flight:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while proxy.in_flight:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        assert await condition(proxy) == READY
    assert not [each for each in caplog.messages if "no answer" in each]


async def test_what_one_request_meets_is_not_the_whole_stack() -> None:
    """A slow model, and a connection that ends without an answer: the stack counts as reachable."""
    over = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if b"slow" in body:
            await over.wait()
        if b"broken" in body:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(COMPLETION)

    async with in_front_of(handle, first_byte_timeout=0.3) as proxy, caller(proxy) as http:
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        for what, status, code in (
            ("slow", 504, "first_byte_timeout"),
            ("broken", 502, "stack_unreachable"),
        ):
            answer = await http.post(CHAT, json={**QUESTION, "user": what})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert await condition(proxy) == READY, what
        over.set()


async def test_a_stack_that_takes_no_connection() -> None:
    """Refused, not answered in time, or not trusted: all of them; and it is back when it is back."""
    manager = signed_in()
    async with serving(stack(Recording())) as url:
        port = int(url.rpartition(":")[2])
    async with proxying(url, manager) as proxy, caller(proxy) as http:
        assert (await http.get("/v1/files")).status_code == 502
        assert await condition(proxy) == ("False", "StackUnreachable")
        async with serving(stack(Recording()), port):
            assert (await http.get("/v1/files")).status_code == 200
            assert await condition(proxy) == READY
    manager.close()


async def test_a_stack_that_takes_no_connection_in_time() -> None:
    """Its queue of connections is full: 504, and it counts as unreachable."""
    manager = signed_in()
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with proxying(url, manager, connect_timeout=0.3) as proxy, caller(proxy) as http:
            answer = await http.get("/v1/files")
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "connect_timeout"
            assert await condition(proxy) == ("False", "StackUnreachable")
    manager.close()


async def test_a_stack_that_is_not_trusted(tmp_path: Path) -> None:
    """Its certificate is of an unknown authority: it counts as unreachable, and the text says why."""
    certificate = Certificate(host="localhost")
    crt, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    crt.write_bytes(certificate.public)
    key.write_bytes(certificate.pem())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    manager = signed_in()
    async with (
        serving(stack(Recording()), tls=tls) as url,
        proxying(url.replace("127.0.0.1", "localhost"), manager) as proxy,
        caller(proxy) as http,
    ):
        answer = await http.get("/v1/files")
        assert answer.status_code == 502
        assert "llama_stack.ca_bundle" in answer.json()["error"]["message"]
        assert await condition(proxy) == ("False", "StackUnreachable")
    manager.close()
