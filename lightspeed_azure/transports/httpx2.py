"""The same for httpx2, which takes no transport of httpx; the only file that imports it.

A request goes over as one of httpx, and its answer, or its error, comes back as one of httpx2.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2

from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports import factory, transport
from lightspeed_azure.transports.carrier import LEFT
from lightspeed_azure.transports.stack_address import Stack

__all__ = ["AsyncTokenTransport", "TokenTransport", "async_http_client", "http_client"]


class AsyncTokenTransport(httpx2.AsyncBaseTransport):
    """`lightspeed_azure.transports.AsyncTokenTransport` for an `httpx2.AsyncClient`.

    Args:
        stack: as there.
        options: as there; `inner` is a transport of httpx.

    Raises:
        InvalidConfigurationError: this cannot work.
    """

    def __init__(self, stack: Stack, **options: Any) -> None:
        self._inner = transport.AsyncTokenTransport(stack, **options)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one hop of a request; raises as there, and the errors of httpx2."""
        with _as_httpx2(request) as sent:
            response = await self._inner.handle_async_request(sent)
        return _response(response, _AsyncBytes(response.stream))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class TokenTransport(httpx2.BaseTransport):
    """`lightspeed_azure.transports.TokenTransport` for an `httpx2.Client`.

    Args:
        stack: as there.
        options: as there; `inner` returns a transport of httpx.

    Raises:
        InvalidConfigurationError: this cannot work.
    """

    def __init__(self, stack: Stack, **options: Any) -> None:
        self._inner = transport.TokenTransport(stack, **options)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one hop of a request; raises as there, and the errors of httpx2."""
        with _as_httpx2(request) as sent:
            response = self._inner.handle_request(sent)
        return _response(response, _Bytes(response.stream))

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def async_http_client(
    stack: Stack,
    *,
    manager: AzureEntraIDManager | None = None,
    ca_bundle: str | Path | None = None,
    timeout: float | None = None,
    family: str | None = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """Return an `httpx2.AsyncClient`; see `lightspeed_azure.transports.async_http_client`."""
    return factory.build(
        httpx2.AsyncClient,
        AsyncTokenTransport,
        stack,
        options,
        manager=manager,
        ca_bundle=ca_bundle,
        timeout=timeout,
        family=family,
    )


def http_client(
    stack: Stack,
    *,
    manager: AzureEntraIDManager | None = None,
    ca_bundle: str | Path | None = None,
    timeout: float | None = None,
    family: str | None = None,
    **options: Any,
) -> httpx2.Client:
    """Return an `httpx2.Client`; see `lightspeed_azure.transports.http_client`."""
    return factory.build(
        httpx2.Client,
        TokenTransport,
        stack,
        options,
        manager=manager,
        ca_bundle=ca_bundle,
        timeout=timeout,
        family=family,
    )


@contextmanager
def _as_httpx2(request: httpx2.Request) -> Iterator[httpx.Request]:
    """Yield the request as one of httpx; an error inside becomes one of httpx2."""
    stream: Any
    try:
        stream = httpx.ByteStream(request.content)
    except httpx2.RequestNotRead:
        stream = _Body(request.stream)
    sent = httpx.Request(
        request.method,
        str(request.url),
        headers=request.headers.raw,
        stream=stream,
        extensions=request.extensions,
    )
    try:
        with _translated():
            yield sent
    finally:
        if LEFT in sent.extensions:
            request.extensions = {**request.extensions, LEFT: True}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error


def _response(response: httpx.Response, stream: Any) -> httpx2.Response:
    return httpx2.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=stream,
        extensions=response.extensions,
    )


class _Body(httpx.AsyncByteStream, httpx.SyncByteStream):
    """The streamed body of a request, of whichever kind."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)


class _AsyncBytes(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        with _translated():
            await self._stream.aclose()


class _Bytes(httpx2.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._stream

    def close(self) -> None:
        with _translated():
            self._stream.close()
