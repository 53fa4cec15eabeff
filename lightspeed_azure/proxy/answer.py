"""A response of the stack: read where it must be checked, and forwarded to the caller."""

import asyncio
import contextlib
import logging
import re
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from aiohttp import web

from lightspeed_azure.metrics import Tracked
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.proxy.headers import clean_answer

ERROR_LIMIT = 256 * 1024
"""Bytes of a decompressed error that are read."""

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)


class Stream(Protocol):
    """What is used of aiohttp's `StreamReader`."""

    def is_eof(self) -> bool:
        """Return whether the whole body has arrived."""

    def exception(self) -> BaseException | type[BaseException] | None:
        """Return the error that ended the body, if any."""

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what has arrived."""


class StackAnswerError(Exception):
    """The stack answered a request of the proxy itself with an error.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"The stack answered {status}")
        self.status = status


class Answer:
    """A response of the stack; its body is a stream.

    Attributes:
        status: the HTTP status.
        headers: as the stack sent them.
        parts: the pieces of the body.
        close: ends the connection, unless the body was read to its end.
        length: bytes of the body, None if unknown.
    """

    __slots__ = ("_stream", "close", "headers", "length", "parts", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        parts: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
        stream: Stream | None = None,
    ) -> None:
        self._stream = stream
        self.status = status
        self.headers = headers
        self.parts = parts
        self.close = close
        self.length = (
            int(length) if (length := headers.get("Content-Length", "")).isdigit() else None
        )

    @property
    def is_event_stream(self) -> bool:
        """Whether it is a stream of server-sent events."""
        return self.headers.get("Content-Type", "").lower().startswith("text/event-stream")

    @property
    def encoding(self) -> str:
        """How the body is compressed: the value of `Content-Encoding`, or `identity`."""
        return self.headers.get("Content-Encoding", "").strip().lower() or "identity"

    def at_once(self) -> bytes | None:
        """Return the body if it has arrived completely; None otherwise."""
        stream = self._stream
        if stream is None or not stream.is_eof() or stream.exception() is not None:
            return None
        self._stream = None
        return stream.read_nowait() if self.length else b""

    async def text(self) -> str | None:
        """Return the body as text; it can still be forwarded afterwards.

        Returns:
            The text; None if it is too long, or not encoded in a way that can be read.
        """
        self._stream = None
        read: list[bytes] = []
        size = 0
        async for part in self.parts:
            read.append(part)
            size += len(part)
            if size > ERROR_LIMIT:
                self.parts = _chained(read, self.parts)
                return None
        self.parts = _chained(read, None)
        charset = _CHARSET.search(self.headers.get("Content-Type", ""))
        try:
            body = _decompressed(b"".join(read), self.encoding)
            return body.decode(charset[1] if charset else "utf-8", errors="replace")
        except (zlib.error, LookupError, ValueError):
            return None


def _decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body as it was before it was compressed.

    Raises:
        LookupError: the encoding is not known, or the body is too long.
        zlib.error: the body is not compressed in this way.
    """
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise LookupError(encoding)
    decompressor = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever the body begins with
    found = decompressor.decompress(body, ERROR_LIMIT)
    if not decompressor.eof or decompressor.unused_data:
        raise LookupError("longer than ERROR_LIMIT, or not whole")
    return found


async def _chained(
    read: Iterable[bytes], rest: AsyncIterator[bytes] | None
) -> AsyncIterator[bytes]:
    for part in read:
        yield part
    if rest is not None:
        async for part in rest:
            yield part


_logger = logging.getLogger(__name__)

SERVER = "lightspeed-azure"

AT_ONCE = 64 * 1024
"""A response of known length up to this many bytes is sent in one piece."""

CLOSE_LIMIT = 5.0
"""Seconds that a caller has to read the rest of a response that broke off."""


class Answering:
    """Forwards responses of the stack to callers.

    Args:
        origin: the stack's own URL, which callers must not see.
        idle: seconds without progress after which a response is given up, on either side.
    """

    def __init__(self, origin: str, idle: float) -> None:
        self._origin = origin
        self._idle = idle

    async def __call__(
        self, request: web.BaseRequest, answer: Answer, request_id: str, tracked: Tracked
    ) -> web.StreamResponse:
        """Forward a response piece by piece as it arrives; a slow reader slows the stack down.

        Raises:
            Failure: it broke off before anything of it was sent.
            ConnectionResetError: it broke off later, or the caller has left.
        """
        headers = clean_answer(answer.headers, self._origin)
        headers["X-Request-ID"] = request_id
        headers["Server"] = SERVER
        if answer.length is not None and answer.length <= AT_ONCE and request.method != "HEAD":
            body = answer.at_once()  # usually it is complete
            if body is None:
                with tracked.elsewhere():
                    body = await read_whole(_joined(answer.parts), self._idle, request_id)
            headers.popall("Content-Length", None)
            tracked.first_byte()
            return web.Response(status=answer.status, body=body, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        tracked.first_byte()
        await response.prepare(request)
        last = b"\n\n"
        idle = self._idle
        try:
            async with asyncio.timeout(idle) as timer:
                time = asyncio.get_running_loop().time
                async for part in answer.parts:
                    await response.write(part)
                    last = part or last
                    timer.reschedule(time() + idle)
        except ConnectionResetError:
            raise  # the caller has left
        except Exception as error:  # noqa: BLE001 - the caller must see that the response is incomplete
            if isinstance(error, Failure):
                failure = error
            else:
                name = type(error).__name__
                _logger.warning("An answer broke off: %s, request %s", name, request_id)
                failure = Failure(502, "stream_interrupted", "The stack's answer broke off")
            await _break_off(request, response, answer, last, failure)
            raise ConnectionResetError(failure.message) from None
        return response


async def read_whole[T](reading: Awaitable[T], idle: float, request_id: str) -> T:
    """Return what `reading` returns, for a response of which nothing was sent yet.

    Args:
        reading: reads the response.
        idle: seconds that it may take.
        request_id: for the log.

    Raises:
        Failure: the response broke off (502), or made no progress (504).
    """
    failure = Failure(502, "answer_interrupted", "The stack's answer broke off")
    try:
        async with asyncio.timeout(idle):
            return await reading
    except Exception as error:  # noqa: BLE001 - whatever the cause, there is no complete response
        _logger.warning("An answer broke off: %s, request %s", type(error).__name__, request_id)
        if isinstance(error, TimeoutError):
            text = "The stack's answer stood still; proxy.idle_timeout is the limit"
            failure = Failure(504, "idle_timeout", text)
    raise failure  # without the error that it follows from, which may hold a part of the answer


async def _joined(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


async def _break_off(
    request: web.BaseRequest,
    response: web.StreamResponse,
    answer: Answer,
    last: bytes,
    failure: Failure,
) -> None:
    """End a response so that the caller sees that it is incomplete."""
    if answer.is_event_stream and last.endswith((b"\n\n", b"\r\n\r\n")):
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1):
                await response.write(b"data: " + failure.body() + b"\n\n")
    transport = request.transport
    if transport is not None and request.version < (1, 1):
        cut_off(transport)
    elif transport is not None:  # one that does not read would keep it open
        asyncio.get_running_loop().call_later(CLOSE_LIMIT, transport.abort)
    request.protocol.force_close()


def cut_off(transport: asyncio.Transport) -> None:
    """Reset a connection, so that the peer sees an error.

    With HTTP/1.0 an orderly end of the connection would mean that the body is complete (RFC 1945, 7.2.2).
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
