"""An httpx transport that lets provider data go to one origin only.

httpx strips `Authorization` on a cross-origin redirect and forwards every other header, and its
redirects run inside an `httpx.Auth` flow: only below it, in the transport, is every hop seen.
"""

import ssl
from pathlib import Path

import httpx

from lightspeed_azure.clients.environment_proxy import environment_proxy
from lightspeed_azure.provider_data import strip

CONNECTIONS = httpx.Limits(
    max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4.0
)
"""httpx's 100 would let the 101st concurrent stream wait for another one to end; and its 5 seconds
are those after which uvicorn hangs up an idle connection, so that a request could meet the end."""


class PinnedTransport(httpx.AsyncBaseTransport):
    """Sends each request on, without provider data where it leaves the one origin.

    Args:
        origin: the stack's URL; scheme, host and port count.
        inner: what sends.
    """

    def __init__(self, origin: httpx.URL, inner: httpx.AsyncBaseTransport) -> None:
        self._origin = origin_of(origin)
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop of a request."""
        if origin_of(request.url) != self._origin:
            strip(request.headers)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def pinned_transport(origin: httpx.URL, ca_bundle: Path | None = None) -> PinnedTransport:
    """Return a transport to one origin, through the proxy that the environment names for it."""
    verify = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else True
    proxy = environment_proxy(origin.scheme, origin.host)
    inner = httpx.AsyncHTTPTransport(verify=verify, limits=CONNECTIONS, proxy=proxy)
    return PinnedTransport(origin, inner)


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port, which together are an origin (RFC 6454)."""
    return (url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme))
