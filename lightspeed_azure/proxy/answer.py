"""An answer of the stack, and what it says before it is passed on."""

import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Protocol

ERROR_LIMIT = 256 * 1024
"""Bytes of an error, decompressed, that are read to find out what it says."""

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)


class Stream(Protocol):
    """A body as it comes, as aiohttp's `StreamReader` gives it."""

    def is_eof(self) -> bool:
        """Return whether all of it has come."""

    def exception(self) -> BaseException | type[BaseException] | None:
        """Return why no more of it comes."""

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what has come."""


class StackAnswerError(Exception):
    """The stack answered a question of the proxy's own with an error.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"The stack answered {status}")
        self.status = status


class Answer:
    """An answer of the stack, whose body comes as it comes.

    Attributes:
        status: the HTTP status.
        headers: as the stack sent them.
        parts: the pieces of the body.
        close: ends the connection, unless the body was read to its end.
        length: bytes of the body, where it says so.
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
        """Return the body where all of it has come with the headers; None otherwise."""
        stream = self._stream
        if stream is None or not stream.is_eof() or stream.exception() is not None:
            return None
        self._stream = None
        return stream.read_nowait() if self.length else b""

    async def text(self) -> str | None:
        """Return the body as text, and keep the body to be passed on.

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
