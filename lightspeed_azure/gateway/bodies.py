"""Bodies of requests: read to know the model, or passed on as they come; never over a limit."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from lightspeed_azure.gateway.failures import Failure


class Incoming(Protocol):
    """The body of a request, as aiohttp's `StreamReader` gives it."""

    total_bytes: int
    """How many have come."""

    async def readany(self) -> bytes:
        """Return what has come, b"" at the end."""

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what has come."""

    def is_eof(self) -> bool:
        """Return whether all of it has come."""


def too_large(limit: int, key: str) -> Failure:
    """Return the answer to a body over the limit."""
    return Failure(
        413, "body_too_large", f"The body has more than {limit} bytes, the limit in proxy.{key}"
    )


async def whole(incoming: Incoming, length: int | None, limit: int, idle: float) -> bytes:
    """Return a whole body.

    Args:
        incoming: gives it.
        length: how long it says it is.
        limit: bytes that it may have.
        idle: seconds that it may stand still.

    Raises:
        Failure: it is too large (413), or stands still (408).
    """
    if length is not None and length > limit:
        raise too_large(limit, "body_limit")
    if length is not None and incoming.is_eof() and incoming.total_bytes == length:
        return incoming.read_nowait() if length else b""  # it came together with the headers
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(idle) as timer:
            loop = asyncio.get_running_loop()
            while part := await incoming.readany():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise too_large(limit, "body_limit")
                timer.reschedule(loop.time() + idle)
    except TimeoutError:
        raise _stands_still() from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds, as the stack will read it.

    Raises:
        Failure: it is none (400).
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Failure(400, "invalid_json", "The body is not a JSON object")
    return data


class Upload:
    """A body that is passed on as it comes.

    Args:
        incoming: gives it.
        limit: bytes that it may have.
        idle: seconds that it may stand still.

    Attributes:
        failure: why it was not passed on to its end; None while nothing is wrong.
    """

    def __init__(self, incoming: Incoming, limit: int, idle: float) -> None:
        self._incoming = incoming
        self._limit = limit
        self._idle = idle
        self.failure: Failure | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    part = await self._incoming.readany()
            except TimeoutError:
                self.failure = _stands_still()
                raise self.failure from None
            if not part:
                return
            left -= len(part)
            if left < 0:
                self.failure = too_large(self._limit, "upload_limit")
                raise self.failure
            yield part


def _stands_still() -> Failure:
    return Failure(
        408, "request_timeout", "The body did not come in time; proxy.idle_timeout is the limit"
    )
