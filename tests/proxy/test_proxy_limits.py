"""How large a request's head may be, and how many connections there may be, on both ports."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_stack import serving, stack
from proxying import (
    CHAT,
    QUESTION,
    STREAMED,
    Recording,
    caller,
    command,
    eventually,
    in_front_of,
    most_memory,
    streaming,
)

from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.proxy.server import MAX_HEADERS

KILOBYTE = 1024
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
TOO_LARGE = "The request line and headers are too large; proxy.header_limit is the limit"


def head(size: int, *, headers: int) -> bytes:
    """Return a whole head of `size` bytes with some headers more than it needs."""
    left = size - len(GET) - len(b"\r\n") - headers * len(b"X-000: \r\n")
    lines = [
        b"X-%03d: %s\r\n" % (number, b"a" * (left // headers + (number < left % headers)))
        for number in range(headers)
    ]
    return GET + b"".join(lines) + b"\r\n"


@asynccontextmanager
async def connected(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a port."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def asked(url: str, *parts: bytes) -> bytes:
    """Send the parts of a request, each for itself, and return what comes back until the end."""
    async with connected(url) as (reader, writer), asyncio.timeout(10):
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            return await reader.read()
        except ConnectionError:
            return b""


def status_and_message(answer: bytes) -> tuple[bytes, str]:
    """Return the status, and the message of the error."""
    return answer.split()[1], json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.parametrize("headers", [1, 2, 100])
async def test_a_head_within_the_limit(headers: int) -> None:
    """All that counts is the sum: one large header, or many small ones."""
    async with in_front_of(Recording(), header_limit=8 * KILOBYTE) as proxy:
        for url in (proxy.url, proxy.admin_url):
            data = head(8 * KILOBYTE, headers=headers)
            assert len(data) == 8 * KILOBYTE
            async with connected(url) as (reader, writer):
                writer.write(data)
                assert (await reader.readline()).split()[1] == b"200"
            async with connected(url) as (reader, writer):
                writer.write(data[:5000])
                await asyncio.sleep(0.02)
                writer.write(data[5000:] + head(8 * KILOBYTE, headers=headers))
                for _ in range(2):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert answer.split()[1] == b"200"
                    assert await reader.readexactly(len('{"status": "ok"}'))


@pytest.mark.parametrize("headers", [1, 2, 100])
async def test_a_head_over_the_limit(headers: int) -> None:
    """One byte more is 431, whether it comes at once or in parts; nothing of it is repeated."""
    async with in_front_of(Recording(), header_limit=8 * KILOBYTE) as proxy:
        for url in (proxy.url, proxy.admin_url):
            data = head(8 * KILOBYTE + 1, headers=headers)
            answer = await asked(url, data)
            assert status_and_message(answer) == (b"431", TOO_LARGE)
            assert b"aaaa" not in answer
            answer = await asked(url, data[:5000], data[5000:])
            assert status_and_message(answer) == (b"431", TOO_LARGE)


async def test_a_head_that_never_ends() -> None:
    """It is refused as soon as the limit is reached, not when it ends."""
    async with in_front_of(Recording(), header_limit=8 * KILOBYTE) as proxy:
        for url in (proxy.url, proxy.admin_url):
            unfinished = [b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(9)]
            answer = await asked(url, GET, *unfinished)
            assert status_and_message(answer) == (b"431", TOO_LARGE)
            answer = await asked(url, GET + b"X-A: ", *[b"a" * 3000] * 3)
            assert status_and_message(answer) == (b"431", TOO_LARGE)
            async with connected(url) as (reader, writer):  # after a good request, too
                writer.write(GET + b"\r\n")
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len('{"status": "ok"}'))
                writer.write(GET + b"X-A: " + b"a" * 9000)
                assert status_and_message(await reader.read()) == (b"431", TOO_LARGE)


async def test_too_many_headers() -> None:
    """The message names the number, which no key changes."""
    async with in_front_of(Recording()) as proxy:
        answer = await asked(proxy.url, head(8 * KILOBYTE, headers=MAX_HEADERS))
    text = f"The request has more than {MAX_HEADERS} headers"
    assert status_and_message(answer) == (b"431", text)


CHUNKED = (
    b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    ("start", "part", "end"),
    [
        (b"1\r\nx\r\n0\r\n", b"X-%d: %s\r\n", b"\r\n"),
        (b"1", b";x-%d=%s", b"\r\nx\r\n0\r\n\r\n"),
    ],
    ids=["trailers", "chunk extensions"],
)
async def test_what_surrounds_a_body_is_limited(start: bytes, part: bytes, end: bytes) -> None:
    """Trailers and chunk extensions over the limit for heads end the request; smaller ones do not."""
    seen = Recording()
    async with in_front_of(seen, header_limit=4 * KILOBYTE, idle_timeout=0.3) as proxy:
        parts = [part % (number, b"a" * 1500) for number in range(4)]
        answer = await asked(proxy.url, CHUNKED + start, *parts, end)
        assert answer.split()[1] == b"408"  # nothing more of the body is read
        assert b"aaaa" not in answer
        answer = await asked(proxy.url, CHUNKED + start, *parts[:2], end)
        assert answer.split()[1] == b"200"
        assert seen.requests[-1][3] == b"x"


async def test_many_small_chunks_are_a_body() -> None:
    """The framing of chunks is not limited, however small they are."""
    seen = Recording()
    async with in_front_of(seen, header_limit=4 * KILOBYTE) as proxy:
        answer = await asked(proxy.url, CHUNKED, *[b"1\r\nx\r\n" * 1000] * 5, b"0\r\n\r\n")
        assert answer.split()[1] == b"200"
        assert seen.requests[-1][3] == b"x" * 5000


async def test_pipelined_requests_are_no_large_head() -> None:
    """Many small requests at once are answered, each of them."""
    async with (
        in_front_of(Recording(), header_limit=2 * KILOBYTE) as proxy,
        connected(proxy.url) as (reader, writer),
        asyncio.timeout(60),
    ):
        writer.write((GET + b"\r\n") * 2000)
        answer = b""
        while answer.count(b'{"status": "ok"}') < 2000:
            part = await reader.read(1024 * KILOBYTE)
            assert part
            answer += part
    assert answer.count(b" 200 OK") == 2000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_heads_take_little_memory(tmp_path: Path) -> None:
    """A hundred strangers who send eight megabytes of headers each get nowhere near that memory."""
    async with serving(stack(Recording())) as url, command(url, tmp_path) as running:
        async with running.client() as http:
            assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        before = most_memory(running.process.pid)
        async with asyncio.timeout(60):
            await asyncio.gather(*(_pestering(running.url) for _ in range(50)))
            await asyncio.gather(*(_pestering(running.admin_url) for _ in range(50)))
        assert most_memory(running.process.pid) - before < 64 * 1024 * KILOBYTE


async def _pestering(url: str) -> None:
    async with connected(url) as (_, writer):
        try:
            writer.write(GET)
            for number in range(120):
                writer.write(b"X-%03d: %s\r\n" % (number, b"a" * 63 * KILOBYTE))
                await writer.drain()
        except ConnectionError:
            pass


@pytest.mark.parametrize("port", ["callers", "operators"])
async def test_the_oldest_idle_connection_makes_room(
    port: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One connection more than the limit closes the one that has been idle longest, and is served."""
    caplog.set_level(logging.WARNING, "lightspeed_azure.proxy.server")
    async with in_front_of(Recording(), connection_limit=2) as proxy:
        url = proxy.url if port == "callers" else proxy.admin_url
        async with connected(url) as (first, _), connected(url) as (second, to_second):
            async with connected(url) as (third, to_third), asyncio.timeout(10):
                assert await first.read() == b""
                for reader, writer in ((second, to_second), (third, to_third)):
                    writer.write(GET + b"\r\n")
                    assert (await reader.readline()).split()[1] == b"200"
            async with connected(url) as (reader, writer), asyncio.timeout(10):
                writer.write(GET + b"\r\n")
                assert (await reader.readline()).split()[1] == b"200"
    key = "port" if port == "callers" else "admin_port"
    text = f"2 connections are open at proxy.{key}; proxy.connection_limit is the limit"
    assert [each.message for each in caplog.records] == [text]


async def test_a_request_in_progress_is_not_cut_off_for_a_new_connection() -> None:
    """Where all connections are busy a new one gets 503 with Retry-After, until there is room."""
    started, ended = asyncio.Event(), asyncio.Event()
    handler = streaming(started=started, ended=ended, pause=0.02)
    async with in_front_of(handler, connection_limit=1) as proxy, caller(proxy) as http:
        async with http.stream("POST", CHAT, json=STREAMED) as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            refused = await asked(proxy.url)
            assert status_and_message(refused) == (b"503", "Too many connections; try again later")
            assert b"\r\nRetry-After: 1\r\n" in refused
            assert b"\r\nConnection: close\r\n" in refused
            assert await anext(parts)
        async with asyncio.timeout(10):
            await ended.wait()
        async with caller(proxy) as other:
            assert (await eventually(lambda: other.get("/livez"), 200)).status_code == 200


def test_the_limits_without_configuration() -> None:
    """Heads of 64 KiB, and a thousand connections at each port."""
    config = ProxyConfiguration()
    assert (config.header_limit, config.connection_limit) == (64 * KILOBYTE, 1000)
