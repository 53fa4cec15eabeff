"""A token never reaches another origin, whatever the stack answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from integration_support import ask

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration

MODELS = {
    "data": [
        {
            "id": "azure/gpt-4o-mini",
            "object": "model",
            "created": 1,
            "owned_by": "llama_stack",
            "custom_metadata": {"provider_id": "azure"},
        }
    ]
}
PROVIDERS = {
    "data": [
        {
            "api": "inference",
            "provider_id": "azure",
            "provider_type": "remote::azure",
            "config": {"base_url": "https://example.openai.azure.com/openai/v1"},
            "health": {"status": "OK"},
        }
    ]
}
COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    ],
}


@asynccontextmanager
async def serving(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve one handler for every path; yield the URL."""
    server = web.Server(handler)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("shown_in_default_headers", [False, True])
async def test_a_redirect_to_another_origin_carries_no_token(
    manager: AzureEntraIDManager,
    emulators: Emulators,
    status: int,
    *,
    shown_in_default_headers: bool,
) -> None:
    """Httpx would forward the header; the transport takes it off at the origin's border."""
    seen: list[dict[str, str]] = []
    at_home: list[dict[str, str]] = []

    async def stranger(request: web.BaseRequest) -> web.StreamResponse:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response(COMPLETION)

    async with serving(stranger) as elsewhere:

        async def stack(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/v1/models":
                return web.json_response(MODELS)
            if request.path == "/v1/providers":
                return web.json_response(PROVIDERS)
            at_home.append({name.lower(): value for name, value in request.headers.items()})
            return web.Response(status=status, headers={"Location": f"{elsewhere}/v1/taken"})

        async with serving(stack) as home:
            holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
            await holder.load(LlamaStackConfiguration(url=home))
            if shown_in_default_headers:
                await holder.update_azure_token()
            await ask(holder.get_client(), "hello")
            await holder.close()
    token = manager.access_token.get_secret_value()
    assert token in at_home[0]["x-llamastack-provider-data"]
    assert len(seen) == 1
    assert token not in str(seen)
    assert "x-llamastack-provider-data" not in seen[0]


async def test_a_token_in_a_default_header_stays_off_other_calls(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """`update_azure_token()` shows a token in the default headers; only inference sends it."""
    headers: dict[str, dict[str, str]] = {}

    async def stack(request: web.BaseRequest) -> web.StreamResponse:
        headers[request.path] = {name.lower(): value for name, value in request.headers.items()}
        if request.path == "/v1/models":
            return web.json_response(MODELS)
        if request.path == "/v1/providers":
            return web.json_response(PROVIDERS)
        return web.json_response(COMPLETION)

    async with serving(stack) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load(LlamaStackConfiguration(url=home))
        client = await holder.update_azure_token()
        await client.models.list()
        await ask(client, "hello")
        await ask(client, "hello", model="openai/gpt-4o-mini")
        await holder.close()
    assert "x-llamastack-provider-data" not in headers["/v1/models"]
    assert "x-llamastack-provider-data" not in headers["/v1/chat/completions"], (
        "the last question went to a model of another provider"
    )
