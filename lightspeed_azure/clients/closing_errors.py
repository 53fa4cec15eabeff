"""An httpx transport that uses no connection again on which an error came.

Where a request ends in an exception the server answers first and then hangs up, without saying so
(uvicorn 0.54 below OGX 1.5): the next request on that connection would be lost, and the client of
OGX repeats none.
"""

import contextlib

import httpx


class ClosingErrors(httpx.AsyncBaseTransport):
    """Sends each request on; hangs up after an answer of status 400 and above.

    Args:
        inner: what sends.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; an error is read here, up to its last byte but not to its end.

        A connection whose answer was not read to its end is not used again (httpcore 1.0).
        """
        response = await self._inner.handle_async_request(request)
        length = response.headers.get("content-length", "")
        if response.status_code < 400 or not length.isdigit():
            return response
        body = b""
        try:
            if int(length):
                async for part in response.stream:  # type: ignore[union-attr]  # it is async
                    body += part
                    if len(body) >= int(length):
                        break
        finally:
            with contextlib.suppress(httpx.TransportError):
                await response.aclose()
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            content=body,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
