"""An httpx transport that lets provider data go to one stack only.

httpx strips `Authorization` on a cross-origin redirect and forwards every other header, and its
redirects run inside an `httpx.Auth` flow: only below it, in the transport, is every hop seen.
"""

import ssl
from pathlib import Path

import httpx

from lightspeed_azure.clients.environment_proxy import environment_proxy
from lightspeed_azure.provider_data import is_provider_data, strip
from lightspeed_azure.secrets import RedactedStr

CONNECTIONS = httpx.Limits(
    max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4.0
)
"""httpx's 100 would let the 101st concurrent stream wait for another one to end; and its 5 seconds
are those after which uvicorn hangs up an idle connection, so that a request could meet the end."""


CARRIED = "lightspeed_azure.carried"
"""Extension of a request: the provider data that its hops to the stack carry."""


class Home:
    """Where a stack is: an origin (RFC 6454), and below which path where its URL has one.

    Behind a gateway that serves others beside it, those are strangers.

    Args:
        url: the stack's URL.
    """

    def __init__(self, url: httpx.URL) -> None:
        self._origin = _origin_of(url)
        self._path = f"{url.path.rstrip('/')}/"

    def holds(self, url: httpx.URL) -> bool:
        """Return whether a request to this URL reaches the stack."""
        if _origin_of(url) != self._origin:
            return False
        if self._path == "/":
            return True
        return url.path.startswith(self._path) and ".." not in url.path.split("/")


class PinnedTransport(httpx.AsyncBaseTransport):
    """Sends each request on, without provider data where it leaves the stack.

    What goes along is on a copy: the request that errors and responses show, and that pickles with
    them, has none.

    Args:
        url: the stack's URL; scheme, host and port count, and a path that it has.
        inner: what sends.
    """

    def __init__(self, url: httpx.URL, inner: httpx.AsyncBaseTransport) -> None:
        self._home = Home(url)
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop of a request; a redirect takes its extensions to the next."""
        own = [
            (name, RedactedStr(value))
            for name, value in request.headers.multi_items()
            if is_provider_data(name)
        ]
        strip(request.headers)
        extensions = dict(request.extensions)
        before = extensions.pop(CARRIED, [])
        carried = own or before
        if not carried or not self._home.holds(request.url):
            request.extensions = extensions
            return await self._inner.handle_async_request(request)
        request.extensions = {**extensions, CARRIED: carried}
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )
        sent.headers.update(carried)
        if isinstance(sent.stream, httpx.ByteStream):
            sent.read()  # a transport below may look at the content
        return await self._inner.handle_async_request(sent)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def pinned_transport(url: httpx.URL, ca_bundle: Path | None = None) -> PinnedTransport:
    """Return a transport to one stack, through the proxy that the environment names for it."""
    verify = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else True
    proxy = environment_proxy(url.scheme, url.host)
    inner = httpx.AsyncHTTPTransport(verify=verify, limits=CONNECTIONS, proxy=proxy)
    return PinnedTransport(url, inner)


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme))
