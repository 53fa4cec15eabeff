"""What goes wrong below a client leaves no token in any frame, of httpx and httpcore either."""

import asyncio
from typing import Any

import httpx
import pytest
from aiohttp import web
from canary import watching
from fake_stack import serving, stack
from families import FAMILY
from proxying import CHAT, QUESTION, TOKEN, signed_in

from lightspeed_azure import AzureEntraIDManager, StackUnavailableError
from lightspeed_azure.transports import AsyncTokenTransport, TokenTransport


async def resets(request: web.BaseRequest) -> web.StreamResponse:
    """Hang up instead of answering."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
    """Answer with something that is no HTTP."""
    await request.read()
    assert request.transport is not None
    request.transport.write(b"nonsense\r\n\r\n")
    request.transport.close()
    return web.Response()


async def waits(request: web.BaseRequest) -> web.StreamResponse:
    """Answer after the client has lost patience."""
    await request.read()
    await asyncio.sleep(2)
    return web.Response()


async def ask(url: str, manager: AzureEntraIDManager, *, asynchronous: bool) -> None:
    """Ask one question."""
    options: dict[str, Any] = {"timeout": 0.3, "trust_env": False}
    if asynchronous:
        transport = AsyncTokenTransport(url, manager=manager)
        async with httpx.AsyncClient(transport=transport, **options) as client:
            await client.post(f"{url}{CHAT}", json=QUESTION)
        return
    with httpx.Client(transport=TokenTransport(url, manager=manager), **options) as caller:
        await asyncio.to_thread(caller.post, f"{url}{CHAT}", json=QUESTION)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("handle", [resets, nonsense, waits])
async def test_a_stack_that_fails(handle: Any, asynchronous: bool) -> None:
    """The error that the caller gets, those behind it, and all their frames."""
    manager = signed_in()
    carried: list[bool] = []

    async def noting(request: web.BaseRequest) -> web.StreamResponse:
        carried.append(TOKEN in request.headers[FAMILY.header])
        answer: web.StreamResponse = await handle(request)
        return answer

    with watching() as canary:
        canary.watch(token=TOKEN, field="azure_api_key")
        async with serving(stack(noting)) as url:
            with pytest.raises(httpx.TransportError) as caught:
                await ask(url, manager, asynchronous=asynchronous)
        assert carried
        assert all(carried)
        canary.read_error("error", caught.value)
    manager.close()


async def only_its_version(request: web.BaseRequest) -> web.StreamResponse:
    """Tell the version, and hang up on every other request."""
    if request.path == "/v1/version":
        return web.json_response({"version": FAMILY.version})
    return await resets(request)


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_stack_that_does_not_tell_its_models(asynchronous: bool) -> None:
    """The error does not lead to the request for the models, which authenticates the caller."""
    manager = signed_in()
    async with serving(only_its_version) as url:
        with pytest.raises(StackUnavailableError) as caught:
            await ask(url, manager, asynchronous=asynchronous)
    assert "when asked for its models and providers" in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    manager.close()
