"""Bodies through the proxy, in both directions: as they come, within limits, and never half by stealth."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web
from fake_stack import COMPLETION, serving, stack
from openai import APIStatusError, AsyncOpenAI
from proxying import (
    CHAT,
    EVENT,
    MODEL,
    QUESTION,
    STREAMED,
    Recording,
    caller,
    in_front_of,
    proxying,
    raw,
    signed_in,
    streaming,
)

from lightspeed_azure import LlamaStackConfiguration

MEGABYTE = 1024 * 1024


async def test_every_event_is_passed_on_at_once() -> None:
    """An event reaches the caller before the stack has made the next one."""
    go_on = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(5):
            await response.write(b"data: %d\n\n" % number)
            await go_on.wait()  # nobody sets it before the event has arrived
            go_on.clear()
        return response

    async with (
        in_front_of(handle) as proxy,
        caller(proxy) as http,
        http.stream("POST", CHAT, json=STREAMED) as answer,
    ):
        events = []
        async for part in answer.aiter_bytes():
            events.append(part)
            go_on.set()
    assert events == [b"data: %d\n\n" % number for number in range(5)]


async def test_an_upload_is_passed_on_as_it_comes() -> None:
    """The first part of a file reaches the stack before the caller has sent the second."""
    arrived: asyncio.Queue[int] = asyncio.Queue()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        size = 0
        while part := await request.content.readany():
            size += len(part)
            arrived.put_nowait(size)
        return web.json_response({"bytes": size})

    async def parts() -> AsyncIterator[bytes]:
        sent = 0
        for _ in range(3):
            yield b"x" * 1000
            sent += 1000
            while await arrived.get() < sent:
                pass

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.post("/v1/files", content=parts())
        assert answer.json() == {"bytes": 3000}
        sized = {"Content-Length": "3000"}
        answer = await http.post("/v1/files", content=parts(), headers=sized)
        assert answer.json() == {"bytes": 3000}


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
async def test_large_bodies_arrive_unchanged(path: str) -> None:
    """Twenty megabytes up and down, byte for byte."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([part async for part in request.content.iter_any()])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(body)
        return response

    body = json.dumps({**QUESTION, "blob": os.urandom(10 * MEGABYTE).hex()}).encode()
    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.post(path, content=body)
    assert answer.status_code == 200
    assert answer.content == body


async def test_bodies_over_the_limit() -> None:
    """Too large a body is 413, whether it says its length or not, and the stack never sees it whole."""
    seen = Recording()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100

    limits = {"body_limit": 2048, "upload_limit": 2048}
    async with in_front_of(seen, **limits) as proxy, caller(proxy) as http:
        for path, key in ((CHAT, "body_limit"), ("/v1/files", "upload_limit")):
            for content in (b"x" * 4000, parts()):
                answer = await http.post(path, content=content)
                assert answer.status_code == 413
                assert key in answer.json()["error"]["message"]
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
    assert [request[1] for request in seen.requests] == [CHAT]


async def test_headers_over_the_limit() -> None:
    """Too large headers are 431, and are not repeated to anybody."""
    async with in_front_of(Recording(), header_limit=4096) as proxy:
        for head in (
            b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 5000,
            b"GET /v1/files?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost",
            b"GET /v1/files HTTP/1.1\r\nHost: localhost" + b"\r\nX-A: aaaa" * 300,
        ):
            answer = await raw(proxy, head + b"\r\n\r\n")
            assert answer.split()[1] == b"431", answer
            assert b"aaaa" not in answer


async def test_a_body_that_stands_still() -> None:
    """A caller who stops in the middle of a body gets 408."""
    async with in_front_of(Recording(), idle_timeout=0.3) as proxy:
        for path in (CHAT, "/v1/files"):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
            assert (await raw(proxy, head.encode(), seconds=0.6)).split()[1] == b"408"


async def test_continue() -> None:
    """A caller who waits to be asked for the body is asked."""
    body = json.dumps(QUESTION).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
    )
    async with in_front_of(Recording()) as proxy:
        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert b" 200 " in await reader.readline()
        writer.close()


async def test_the_stack_learns_that_the_caller_has_left() -> None:
    """A caller who leaves a stream ends it in the stack, too."""
    started, ended = asyncio.Event(), asyncio.Event()
    async with in_front_of(streaming(started=started, ended=ended)) as proxy, caller(proxy) as http:
        async with http.stream("POST", CHAT, json=STREAMED) as answer:
            await anext(answer.aiter_bytes())
        async with asyncio.timeout(10):
            await ended.wait()


async def test_the_stack_learns_it_before_the_first_byte() -> None:
    """A caller who leaves before the answer begins ends the request in the stack, too."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return web.Response()

    manager = signed_in()
    runner = web.ServerRunner(web.Server(stack(handle), handler_cancellation=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with proxying(url, manager) as proxy, caller(proxy) as http:
        asking = asyncio.create_task(http.post(CHAT, json=QUESTION))
        await begun.wait()
        asking.cancel()
        async with asyncio.timeout(10):
            await ended.wait()
    await runner.cleanup()
    manager.close()


async def test_a_slow_reader_slows_the_stack_down() -> None:
    """What a caller does not read is not piled up in the proxy: the stack has to wait."""
    sent = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while sent < 400 * MEGABYTE:
            await response.write(b"x" * MEGABYTE)
            sent += MEGABYTE
        return response

    async with (
        in_front_of(handle) as proxy,
        caller(proxy) as http,
        http.stream("POST", CHAT, json=STREAMED) as answer,
    ):
        await anext(answer.aiter_bytes())
        before = -1
        while sent != before:  # until it stands still
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 40 * MEGABYTE


async def test_a_stack_that_breaks_off() -> None:
    """An answer that breaks off never looks whole; a stream says so as OpenAI's do."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        is_stream = b"stream" in await request.read() or request.method == "GET"
        kind = "text/event-stream" if is_stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        if not is_stream:
            response.content_length = 1000
        await response.prepare(request)
        await response.write(EVENT)
        await asyncio.sleep(0.1)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/v1/files/1/content")
        answer = await http.post(CHAT, json=QUESTION)
        assert answer.status_code == 502
        async with http.stream("POST", CHAT, json=STREAMED) as stream:
            parts = stream.aiter_bytes()
            text = await anext(parts) + await anext(parts)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
        assert json.loads(text.split(b"data: ")[2])["error"]["code"] == "stream_interrupted"


@pytest.mark.parametrize("how", ["stack breaks off", "stack stands still", "proxy ends"])
async def test_an_answer_that_breaks_off_is_not_whole_to_http_1_0(how: str) -> None:
    """Such a caller takes the end of the connection for that of the body, so it must be a reset."""
    over = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(EVENT)
        if request.path.endswith("whole"):
            return response
        if how == "stack breaks off":
            await asyncio.sleep(0.1)
            assert request.transport is not None
            request.transport.abort()
        await over.wait()
        return response

    async with in_front_of(handle, idle_timeout=0.5) as proxy:
        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        request = "GET /v1/files/{} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request.format("whole").encode())
        assert (await reader.read()).endswith(b"\r\n\r\n" + EVENT)
        writer.close()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request.format("broken").encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.0 200 OK")
        assert await reader.readexactly(len(EVENT)) == EVENT
        if how == "proxy ends":
            await proxy.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        over.set()


async def test_time_limits() -> None:
    """No answer in time is 504 in OpenAI's shape; a stream that stands still is cut."""
    over = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if b"stream" in await request.read():
            await response.prepare(request)
            await response.write(EVENT)
        await over.wait()
        return response

    limits = {"first_byte_timeout": 0.3, "idle_timeout": 0.3}
    async with in_front_of(handle, **limits) as proxy, caller(proxy) as http:
        answer = await http.post(CHAT, json=QUESTION)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "first_byte_timeout"
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(CHAT, json=STREAMED)
        over.set()


async def test_a_held_response_is_kept_alive() -> None:
    """While the opening of a response is held, all that comes counts, and the caller sees signs.

    After it, a comment counts, too.
    """
    opening = [{"type": "response.created"}, *[{"type": "response.in_progress"}] * 3]
    parts = [
        *(b"data: %s\n\n" % json.dumps(each).encode() for each in opening),
        *(b": ping\n\n", b": ping\n\n", b'data: {"type"', b': "response.output_text.delta"'),
        *(b"}\n\n", b": ping\n\n", b": ping\n\n", b"data: [DONE]\n\n"),
    ]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.25)
        return response

    asked = {"model": MODEL, "input": "hello", "stream": True}
    async with (
        in_front_of(handle, idle_timeout=0.9) as proxy,
        caller(proxy) as http,
        http.stream("POST", "/v1/responses", json=asked) as answer,
    ):
        text = b"".join([part async for part in answer.aiter_raw()])
    held, _, rest = text.partition(parts[0])
    assert held == b":\n\n" * 2 + b": ping\n\n" * 2
    assert parts[0] + rest == b"".join([*parts[:4], *parts[6:]])


async def test_a_stack_that_is_not_there() -> None:
    """No stack is 502 or 503 with Retry-After, in OpenAI's shape; and it is back when it is back."""
    async with serving(stack(Recording())) as url:
        port = int(url.rpartition(":")[2])
    manager = signed_in()
    async with (
        proxying(LlamaStackConfiguration(url=url), manager) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0) as client,
        caller(proxy) as http,
    ):
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(**QUESTION)  # type: ignore[call-overload]
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "5"
        assert (await http.get("/v1/files")).status_code == 502
        async with serving(stack(Recording()), port):
            assert (await http.post(CHAT, json=QUESTION)).status_code == 200
    manager.close()


async def test_throttling_is_passed_on_untouched() -> None:
    """A 429 and its Retry-After reach the caller as they came, and nothing is repeated."""
    calls = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        await request.read()
        headers = {"Retry-After": "7", "x-ratelimit-remaining-requests": "0"}
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.post(CHAT, json=QUESTION)
    assert (answer.status_code, calls) == (429, 1)
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.json() == {"error": {"message": "slow down"}}


async def test_no_connection_is_used_again_after_an_error() -> None:
    """The stack may hang up after an error without a word; good answers share their connection."""
    ports: list[int] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        status = 404 if request.path.endswith("missing") else 200
        return web.json_response({}, status=status)

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        for path in ("1", "2", "missing", "3"):
            await http.get(f"/v1/files/{path}")
    assert ports[0] == ports[1] == ports[2]
    assert ports[3] != ports[2]


async def test_head_and_empty_answers() -> None:
    """Answers without a body stay without one, and keep their length."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            return web.Response(status=204)
        return web.json_response(COMPLETION)

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        head = await http.head("/v1/files/1")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 10
        gone = await http.delete("/v1/files/1")
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await http.get("/v1/files/1")).json() == COMPLETION


async def test_a_compressed_answer_is_left_as_it_is() -> None:
    """What the stack compresses for the caller is not unpacked on the way."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "gzip"
        response = web.json_response({"text": "a" * 5000})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        headers = {"Accept-Encoding": "gzip"}
        async with http.stream("GET", "/v1/files/1", headers=headers) as answer:
            packed = b"".join([part async for part in answer.aiter_raw()])
            assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < 500
