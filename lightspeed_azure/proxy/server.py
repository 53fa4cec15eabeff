"""The server half of aiohttp: connections within limits, and a shutdown that loses no request."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.answer import SERVER, cut_off
from lightspeed_azure.proxy.errors import Failure

_logger = logging.getLogger(__name__)

MAX_HEADERS = 128
"""Headers that a request may have, trailers included."""

LINGERING = 2.0
"""Seconds for which the rest of a refused body is read, so that the caller sees the answer."""

VERSIONS = ((1, 0), (1, 1))
"""Of HTTP; the parser takes 0.9 and 2.0 in the same form."""

TELL_AGAIN = 60.0
"""Seconds until the log says again that there are too many connections."""

type Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _HeadLimit:
    """aiohttp's parser, with a limit on the request line and headers together while they arrive.

    The parser itself limits only the length of each header. Bytes that belong to no body are counted
    for each read of the socket that neither completes a head nor brings a part of a body, so that
    trailers and chunk extensions are limited too.

    Args:
        parser: aiohttp's.
        limit: bytes.
    """

    def __init__(self, parser: Any, limit: int) -> None:
        self._parser = parser
        self._limit = limit
        self._unfinished = 0
        self._body: Any = None
        self._body_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        """Parse what has arrived.

        Raises:
            LineTooLong: a head is over the limit; the text repeats none of it.
            HttpProcessingError: this is not HTTP.
        """
        if self._unfinished <= self._limit:
            parsed = self._parser.feed_data(data)
            if parsed[0]:
                self._body = parsed[0][-1][1]
            body_bytes = 0 if self._body is None else self._body.total_bytes
            if not parsed[0] and body_bytes == self._body_bytes:
                self._unfinished += len(data)
            else:
                self._unfinished = 0
                self._body_bytes = body_bytes
        if self._unfinished > self._limit:
            raise LineTooLong(b"", self._limit)
        return parsed


class _Connection(web.RequestHandler):
    """One caller's connection; errors about unreadable requests have OpenAI's shape."""

    __slots__ = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parser: Any = _HeadLimit(self._parser, self.max_field_size)

    def log_exception(self, *_: Any, **options: Any) -> None:
        """Log where it happened, and no text: a secret may stand in it."""
        error = options.get("exc_info")
        where = "".join(traceback.format_tb(error.__traceback__)) if error else ""
        _logger.debug("A request could not be served: %s\n%s", type(error).__name__, where)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, without repeating any of it."""
        del message
        self.log_exception(exc_info=exc)
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError("The answer has begun already")
        return _told(_unreadable(exc) if status == 400 else Failure(status, "internal_error", ""))


def _told(failure: Failure) -> web.StreamResponse:
    """Return the answer to a request of which nothing more is read."""
    response = web.Response(
        status=failure.status,
        body=failure.body(),
        headers={"Content-Type": "application/json", "Server": SERVER},
    )
    response.force_close()
    return response


def _unreadable(error: BaseException | None) -> Failure:
    if "Too many headers" in str(error):
        text = f"The request has more than {MAX_HEADERS} headers"
        return Failure(431, "headers_too_large", text)
    if isinstance(error, LineTooLong):
        return _head_too_large()
    return Failure(400, "bad_request", "The request is not valid HTTP/1.1")


def _head_too_large() -> Failure:
    text = "The request line and headers are too large; proxy.header_limit is the limit"
    return Failure(431, "headers_too_large", text)


def _full() -> bytes:
    """Return the response to a connection on which nothing is read."""
    failure = Failure(503, "too_many_connections", "Too many connections; try again later")
    body = failure.body()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Server: {SERVER}",
        "Retry-After: 1",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


class _Server(web.Server):
    """Makes the connections, and says when there is a new one."""

    def __init__(
        self, *args: Any, opened: Callable[[web.RequestHandler], None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._opened = opened

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._opened(handler)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Listener:
    """Serves one handler at one address. Use it from one event loop.

    Args:
        handle: answers a request.
        name: the key of the configuration that names the port, for errors.
        header_limit: bytes that the request line and headers may have together.
        connection_limit: how many connections may be open. One more closes the oldest that has no
            request in progress; if there is none, it gets 503.
        keep_alive: seconds that a connection is kept without a request.
        idle: seconds that a caller may leave an answer unread.
        tls: None is plain HTTP.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        name: str,
        header_limit: int,
        connection_limit: int,
        keep_alive: float,
        idle: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handle = handle
        self._name = name
        self._tls = tls
        self._unread = idle
        self._header_limit = header_limit
        self._connection_limit = connection_limit
        self._tell_again = 0.0
        self._active: set[web.RequestHandler] = set()  # one request each at a time
        self._idle = asyncio.Event()
        self._idle.set()
        self._server = _Server(
            self._counted,
            opened=self._make_room,
            handler_cancellation=True,
            access_log=None,
            logger=_logger,
            auto_decompress=False,
            max_line_size=header_limit,
            max_field_size=header_limit,
            max_headers=MAX_HEADERS,
            keepalive_timeout=keep_alive,
            lingering_time=LINGERING,
        )
        self._listening: asyncio.Server | None = None
        self.url = ""

    async def start(self, host: str, port: int) -> None:
        """Listen; `url` says where.

        Raises:
            InvalidConfigurationError: the address is taken, or is none of this machine's.
        """
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                self._server, host, port, ssl=self._tls, backlog=1024, reuse_address=True
            )
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0
            reason = getattr(error, "strerror", None) or "no such address"
            reason = os.strerror(number) if number > 0 else reason
            raise InvalidConfigurationError(
                f"proxy.{self._name} (--{self._name.replace('_', '-')}): cannot listen at "
                f"{host}:{port} ({reason}); "
                "give another host or port"
            ) from None
        for each in self._listening.sockets:
            _hang_up_on_who_does_not_read(each, self._unread)
        bound = self._listening.sockets[0]
        shown = f"[{host}]" if bound.family == socket.AF_INET6 and ":" in host else host
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{shown}:{bound.getsockname()[1]}"

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self._active)

    async def drain(self) -> None:
        """Take no new connections, hang up on idle ones, and wait until all requests have ended."""
        if self._listening is not None:
            self._listening.close()
        for connection in self._server.connections:
            if connection not in self._active:  # closing a busy one would lose the rest of its body
                connection.force_close()
        await self._idle.wait()

    async def close(self) -> None:
        """End everything now."""
        if self._listening is not None:
            self._listening.close()
        for connection in self._server.connections:
            if connection.transport is not None:
                cut_off(connection.transport)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._idle.wait()
        await self._server.shutdown(0.1)

    def _make_room(self, newest: web.RequestHandler) -> None:
        """Keep the number of connections within the limit."""
        if len(self._server.connections) <= self._connection_limit:
            return
        connected = [each for each in self._server.connections if each.connected]
        if len(connected) <= self._connection_limit:
            return
        now = asyncio.get_running_loop().time()
        if now >= self._tell_again:
            self._tell_again = now + TELL_AGAIN
            _logger.warning(
                "%d connections are open at proxy.%s; proxy.connection_limit is the limit",
                self._connection_limit,
                self._name,
            )
        oldest = next(each for each in connected if each is newest or each not in self._active)
        if oldest is newest and newest.transport is not None:
            newest.transport.write(_full())
        oldest.force_close()

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._active.add(connection)
        self._idle.clear()
        try:
            _check_framing(request)
            _check_size(request, self._header_limit)
            return await self._handle(request)
        except Failure as failure:
            return _told(failure)
        finally:
            self._active.discard(connection)
            if not self._active:
                self._idle.set()


def _hang_up_on_who_does_not_read(listening: Any, seconds: float) -> None:
    """Let the system end connections on which nothing can be sent; they inherit it.

    Otherwise a caller who takes no answer would keep the connection for ever (tcp(7)).
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _check_framing(request: web.BaseRequest) -> None:
    """Refuse what another server on the way could read as another request (RFC 9112, section 11.2).

    aiohttp's parser refuses most of it; this is what it lets through.

    Raises:
        Failure: 400.
    """
    headers = request.headers
    bad = not request.raw_path.startswith("/") or request.version not in VERSIONS
    if hdrs.TRANSFER_ENCODING in headers:
        encodings = [each.strip().lower() for each in headers.getall(hdrs.TRANSFER_ENCODING)]
        bad |= encodings != ["chunked"] or hdrs.CONTENT_LENGTH in headers
        bad |= request.version < (1, 1)
    elif hdrs.CONTENT_LENGTH in headers:
        bad |= len(headers.getall(hdrs.CONTENT_LENGTH)) > 1
    hosts = len(headers.getall(hdrs.HOST, ()))
    if bad or hosts > 1 or (not hosts and request.version >= (1, 1)):
        raise Failure(400, "bad_request", "The request is not valid HTTP/1.1")


def _check_size(request: web.BaseRequest, limit: int) -> None:
    """Refuse a request whose request line and headers are too large together.

    Raises:
        Failure: 431.
    """
    size = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n\r\n")
    for name, value in request.raw_headers:
        size += len(name) + len(value) + len(": \r\n")
    if size > limit:
        raise _head_too_large()
