"""A stack that answers as a test says: for what a real one cannot be made to do.

It serves `/v1/models` and `/v1/providers` with one `remote::azure` provider and one other; all
other paths are the test's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

type Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

BASE_URL = "https://example.openai.azure.com/openai/v1"


def _model(identifier: str, provider_id: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "object": "model",
        "created": 1,
        "owned_by": "llama_stack",
        "custom_metadata": {"provider_id": provider_id},
    }


def _provider(provider_id: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "api": "inference",
        "provider_id": provider_id,
        "provider_type": kind,
        "config": config,
        "health": {"status": "OK"},
    }


MODELS = {"data": [_model("azure/gpt-4o-mini", "azure"), _model("openai/gpt-4o", "openai")]}
PROVIDERS = {
    "data": [
        _provider("azure", "remote::azure", {"base_url": BASE_URL}),
        _provider("openai", "remote::openai", {}),
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
async def serving(handler: Handler, port: int = 0) -> AsyncIterator[str]:
    """Serve one handler for every path; yield the URL."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def stack(handler: Handler) -> Handler:
    """Return a stack whose listing is known; `handler` answers everything else."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response(MODELS)
        if request.path == "/v1/providers":
            return web.json_response(PROVIDERS)
        return await handler(request)

    return handle


async def answering(_: web.BaseRequest) -> web.StreamResponse:
    """Answer a chat completion."""
    return web.json_response(COMPLETION)


def headers_of(request: web.BaseRequest) -> dict[str, str]:
    """Return a request's headers by their lower-case names."""
    return {name.lower(): value for name, value in request.headers.items()}
