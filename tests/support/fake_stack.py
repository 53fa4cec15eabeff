"""A stack that answers as a test says: for what a real one cannot be made to do.

It serves `/v1/version`, `/v1/models` and `/v1/providers` with `remote::azure` providers and one other; all
other paths are the test's.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from families import FAMILY

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


OPENAI_MODEL = _model("openai/gpt-4o", "openai")
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
    handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve one handler for every path; yield the URL."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def models(azure: Sequence[str] = ("azure",)) -> list[dict[str, Any]]:
    """Return the models that `stack` lists."""
    return [*(_model(f"{name}/gpt-4o-mini", name) for name in azure), OPENAI_MODEL]


def stack(handler: Handler, azure: Sequence[str] = ("azure",)) -> Handler:
    """Return a stack whose listing is known; `handler` answers everything else.

    Args:
        handler: answers what is not a listing.
        azure: the `remote::azure` providers, each with one model.
    """
    providers = [_provider(name, "remote::azure", {"base_url": BASE_URL}) for name in azure]
    providers.append(_provider("openai", "remote::openai", {}))

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"data": models(azure)})
        if request.path == "/v1/version":
            return web.json_response({"version": FAMILY.version})
        if request.path == "/v1/providers":
            return web.json_response({"data": providers})
        return await handler(request)

    return handle


async def answering(_: web.BaseRequest) -> web.StreamResponse:
    """Answer a chat completion."""
    return web.json_response(COMPLETION)


def redirecting(status: int, location: str) -> Handler:
    """Return a handler that sends everybody elsewhere."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"location": location})

    return handle


def headers_of(request: web.BaseRequest) -> dict[str, str]:
    """Return a request's headers by their lower-case names."""
    return {name.lower(): value for name, value in request.headers.items()}


class Asked:
    """The request whose stream is held; it notes what it is told."""

    def __init__(self, *, may: bool = True) -> None:
        self.told: list[str] = []
        self.may = may

    def refused(self) -> bool:
        """Note it; say whether there is another token."""
        self.told.append("refused")
        return self.may

    def accepted(self) -> None:
        """Note it."""
        self.told.append("accepted")
