"""Requests and answers on their way between a synchronous caller and the portal's loop."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import httpx

from lightspeed_azure.concurrency.loop_thread import on_thread, portal
from lightspeed_azure.transports.request_body import in_memory

_OF_THE_LOOP = ("network_stream",)
"""Extensions of a response that work on the loop only."""


def pushed_request(request: httpx.Request) -> httpx.Request:
    """Return a synchronous request as the loop sends it."""
    content = in_memory(request)
    extensions = dict(request.extensions)
    trace = extensions.get("trace")
    if trace is not None:

        async def traced(event: str, info: Any) -> None:
            trace(event, info)

        extensions["trace"] = traced
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=_Pushed(request.stream) if content is None else httpx.ByteStream(content),
        extensions=extensions,
    )


def pulled_response(response: httpx.Response) -> httpx.Response:
    """Return a response of the loop as a synchronous caller reads it."""
    stream: Any = response.stream
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=stream if isinstance(stream, httpx.ByteStream) else _Pulled(stream),
        extensions={n: v for n, v in response.extensions.items() if n not in _OF_THE_LOOP},
    )


class Steps:
    """Runs the steps of one stream on the loop, all in one context.

    A stack inside the process keeps the provider data of a request in context variables, and needs
    it in every step.
    """

    def __init__(self) -> None:
        self._context = contextvars.copy_context()

    async def run[T](self, step: Coroutine[Any, Any, T]) -> T:
        """Return what a step returns."""
        return await asyncio.create_task(step, context=self._context)


class _Pushed(httpx.AsyncByteStream):
    """The body of a synchronous request, read as it is sent; reading it may block."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = iter(self._stream)
        while (part := await on_thread(lambda: next(parts, None))) is not None:
            yield part


class _Pulled(httpx.SyncByteStream):
    """The body of a response, pulled from the loop piece by piece."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._portal = portal()

    def __iter__(self) -> Iterator[bytes]:
        parts = aiter(self._stream)
        steps = Steps()

        async def pull() -> bytes | None:
            part: bytes | None = await anext(parts, None)
            return part

        while (part := self._portal.run(lambda: steps.run(pull()))) is not None:
            yield part

    def close(self) -> None:
        """Release the connection."""
        self._portal.run(self._stream.aclose)
