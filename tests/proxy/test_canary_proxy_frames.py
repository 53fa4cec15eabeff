"""What goes wrong inside the proxy leaves no token in any frame, of whatever package."""

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import web
from canary import watching
from fake_stack import Handler, serving, stack
from families import FAMILY
from proxying import CHAT, QUESTION, TOKEN, caller, proxying, signed_in
from pydantic import SecretStr

from lightspeed_azure import LlamaStackConfiguration
from lightspeed_azure.proxy.errors import Failure, failure_of

STACK_KEY = "key-of-the-stack-with-32-characters"


@pytest.fixture(name="errors")
def _errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Return every error that becomes an answer of the proxy's own."""
    found: list[Exception] = []

    def noting(error: Exception) -> Failure:
        found.append(error)
        return failure_of(error)

    monkeypatch.setattr("lightspeed_azure.proxy.service.failure_of", noting)
    yield found
    found.clear()


async def resets(request: web.BaseRequest) -> web.StreamResponse:
    """Hang up instead of answering."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def waits(request: web.BaseRequest) -> web.StreamResponse:
    """Answer after the caller has lost patience."""
    await request.read()
    await asyncio.sleep(1)
    return web.Response()


async def repeats(request: web.BaseRequest) -> web.StreamResponse:
    """Repeat the credentials in an error."""
    return web.Response(status=500, text=repr(dict(request.headers)))


async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
    """Answer with something that is no HTTP, and repeats the credentials."""
    await request.read()
    assert request.transport is not None
    said = request.headers.get(FAMILY.header, "") + request.headers["Authorization"]
    request.transport.write(f"HTTP/1.1 2x0 {said}\r\n{said}\r\n\r\n".encode())
    request.transport.close()
    return web.Response()


async def half(request: web.BaseRequest) -> web.StreamResponse:
    """Break off in the middle of an error."""
    await request.read()
    response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


STACKS: dict[str, tuple[Handler, str]] = {
    "hangs up": (resets, "stack_unreachable"),
    "too slow": (waits, "first_byte_timeout"),
    "repeats": (repeats, "error_withheld"),
    "nonsense": (nonsense, "stack_unreachable"),
    "half": (half, "answer_interrupted"),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
@pytest.mark.parametrize("case", STACKS)
async def test_a_stack_that_fails(case: str, path: str, errors: list[Exception]) -> None:
    """However it fails: our frames, aiohttp's and those of the errors behind the error."""
    handle, code = STACKS[case]
    manager = signed_in()
    with watching() as canary:
        canary.watch(token=TOKEN, stack=STACK_KEY)
        async with serving(stack(handle)) as url:
            config = LlamaStackConfiguration(url=url, api_key=SecretStr(STACK_KEY))
            async with (
                proxying(config, manager, first_byte_timeout=0.3) as proxy,
                caller(proxy) as http,
            ):
                await http.get("/v1/models")
                answer = await http.post(path, json=QUESTION)
        assert answer.json()["error"]["code"] == code
        assert errors
        for number, error in enumerate(errors):
            canary.read_error(f"error {number}", error)
    manager.close()
