"""Errors of the stack that arrive late or broken, and which requests are sent again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from proxying import CHAT, QUESTION, caller, in_front_of

from lightspeed_azure.clients.refusal import is_azure_refusal

REFUSAL = "Error code: 401 - Access token is missing, invalid, or have expired."


@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize("how", ["stands still", "breaks off"])
async def test_an_error_that_does_not_come_whole(status: int, how: str) -> None:
    """Its caller is told so, in the time for bodies; nothing is left open."""
    told = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(status=status, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        if how == "stands still":
            await told.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    async with in_front_of(handle, idle_timeout=0.3) as proxy, caller(proxy) as http:
        async with asyncio.timeout(5):
            answer = await http.post(CHAT, json=QUESTION)
        expected = {
            "stands still": (504, "idle_timeout"),
            "breaks off": (502, "answer_interrupted"),
        }
        assert (answer.status_code, answer.json()["error"]["code"]) == expected[how]
        told.set()
        assert not proxy.in_flight


async def test_a_slow_upload_is_not_late() -> None:
    """The time until an answer begins counts from the body's last part: large files take theirs."""
    told = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if body == b"late":
            await told.wait()
        return web.json_response({"bytes": len(body)})

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x"
            await asyncio.sleep(0.2)

    async with in_front_of(handle, first_byte_timeout=0.6) as proxy, caller(proxy) as http:
        answer = await http.post("/v1/files", content=parts())
        assert answer.json() == {"bytes": 6}
        answer = await http.post("/v1/files", content=b"late")
        told.set()
        assert answer.json()["error"]["code"] == "first_byte_timeout"


@pytest.mark.parametrize("stream", ["false", "off", 0, None])
async def test_tools_are_not_called_twice(stream: object) -> None:
    """Whatever a stack takes for no stream: a response with tools of its own is not repeated."""
    bodies: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append(await request.read())
        return web.json_response({"detail": REFUSAL}, status=401)

    asked = {"model": QUESTION["model"], "input": "x", "tools": [{"type": "web_search"}]}
    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.post("/v1/responses", json={**asked, "stream": stream})
        assert answer.status_code == 401
        assert len(bodies) == 1
    async with in_front_of(handle) as proxy, caller(proxy) as http:
        await http.post(CHAT, json=QUESTION)
    assert [json.loads(each)["model"] for each in bodies[1:]] == [QUESTION["model"]] * 2


@pytest.mark.parametrize(("tool", "sends"), [("web_search", 1), ("function", 2)])
async def test_a_streamed_response_with_tools_is_not_sent_twice(tool: str, sends: int) -> None:
    """A refusal inside the stream is the caller's, where the stack calls tools for it."""
    bodies: list[bytes] = []
    failed = {"type": "response.failed", "response": {"error": {"message": REFUSAL}}}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append(await request.read())
        text = f'data: {{"type": "response.created"}}\n\ndata: {json.dumps(failed)}\n\n'
        return web.Response(text=text, content_type="text/event-stream")

    asked = {"model": QUESTION["model"], "input": "x", "tools": [{"type": tool, "name": "f"}]}
    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.post("/v1/responses", json={**asked, "stream": True})
    assert answer.text.endswith(f"data: {json.dumps(failed)}\n\n")
    assert len(bodies) == sends


@pytest.mark.parametrize("text", ["access token is " + "a" * 200_000, "access token is " * 12_000])
def test_a_long_error_is_read_quickly(text: str) -> None:
    """An error that repeats what a caller wrote does not hold up everybody else for minutes."""
    before = time.process_time()
    assert not is_azure_refusal(Refused(text))
    assert time.process_time() - before < 5  # minutes, when each character is tried with each


class Refused(Exception):  # noqa: N818 - an answer of the stack
    """An error of status 500."""

    status_code = 500
