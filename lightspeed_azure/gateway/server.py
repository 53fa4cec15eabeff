"""The listening half of aiohttp: connections with limits, and an end that loses no request."""

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

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.gateway.answering import SERVER
from lightspeed_azure.gateway.failures import Failure

_logger = logging.getLogger(__name__)

MAX_HEADERS = 128
"""Headers that a request may have."""

LINGERING = 2.0
"""Seconds for which the rest of a refused body is read, so that the caller sees the answer."""

VERSIONS = ((1, 0), (1, 1))
"""Of HTTP; the parser takes 0.9 and 2.0 in the same form."""

type Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connection(web.RequestHandler):
    """One caller's connection; what cannot be read is answered in OpenAI's shape."""

    __slots__ = ()

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
    said = str(error)
    if type(error).__name__ == "LineTooLong" or "Too many headers" in said:
        text = "A header, or the request line, is too long; proxy.header_limit is the limit"
        return Failure(431, "headers_too_large", text)
    return Failure(400, "bad_request", "The request is not valid HTTP/1.1")


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Listener:
    """Serves one handler at one address. Use it from one event loop.

    Args:
        handle: answers a request.
        name: the key of the configuration that names the port, for errors.
        header_limit: bytes that one header, or the request line, may have.
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
        keep_alive: float,
        idle: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handle = handle
        self._name = name
        self._tls = tls
        self._unread = idle
        self._active: set[web.RequestHandler] = set()  # one request each at a time
        self._idle = asyncio.Event()
        self._idle.set()
        self._server = _Server(
            self._counted,
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
                connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._idle.wait()
        await self._server.shutdown(0.1)

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._active.add(connection)
        self._idle.clear()
        try:
            _check_framing(request)
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
