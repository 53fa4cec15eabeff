"""Request bodies: read to find the model, or passed on as they arrive, within a limit."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec

from lightspeed_azure.proxy.errors import Failure

LONGEST_MODEL = 1024
"""Bytes of JSON up to which `model` is read; a longer one is no model that a stack lists."""

LONGEST_TOOLS = 1024 * 1024
"""Bytes of JSON up to which `tools` are read; more of them may contain tools of the stack."""


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
    body = io.BytesIO()  # a list of small parts would take more memory than they; joining them, too
    try:
        async with asyncio.timeout(idle) as timer:
            loop = asyncio.get_running_loop()
            while part := await incoming.readany():
                body.write(part)
                if body.tell() > limit:
                    raise too_large(limit, "body_limit")
                timer.reschedule(loop.time() + idle)
    except TimeoutError:
        raise _stands_still() from None
    return body.getvalue()


_NULL = msgspec.Raw(b"null")
_TRUE = msgspec.Raw(b"true")


class _Body(msgspec.Struct, gc=False):
    model: msgspec.Raw = _NULL
    stream: msgspec.Raw = _NULL
    tools: msgspec.Raw = _NULL


class _Function(msgspec.Struct, gc=False):
    type: Literal["function"]


_bodies = msgspec.json.Decoder(_Body)
_models = msgspec.json.Decoder(str)
_functions = msgspec.json.Decoder(list[_Function])
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def parsed(body: bytes) -> dict[str, Any]:
    """Return what the router reads in a JSON body: `model`, `stream` and `tools`.

    The rest of the body is checked and skipped: no objects are created for it.

    Args:
        body: JSON in UTF-8. If a key occurs twice the last one counts, as for the stack.

    Returns:
        `model`: a string, or None if there is none or it is too long for one.
        `stream`: whether it is `true`.
        `tools`: whether there may be tools that the stack calls itself, which are all but functions.

    Raises:
        Failure: the body is not a JSON object (400).
    """
    try:
        found = _bodies.decode(body)
    except _UNREADABLE:
        raise Failure(400, "invalid_json", "The body is not a JSON object") from None
    has_tools = found.tools != _NULL
    return {
        "model": _decoded(found.model, _models, LONGEST_MODEL),
        "stream": found.stream == _TRUE,
        "tools": has_tools and _decoded(found.tools, _functions, LONGEST_TOOLS) is None,
    }


def _decoded[Value](
    raw: msgspec.Raw, decoder: msgspec.json.Decoder[Value], longest: int
) -> Value | None:
    """Return a value; None if it is too long or of another type."""
    if len(memoryview(raw)) > longest:
        return None
    try:
        return decoder.decode(raw)
    except _UNREADABLE:
        return None


async def upload(incoming: Incoming, limit: int, idle: float) -> AsyncIterator[bytes]:
    """Yield a body as it arrives.

    Args:
        incoming: the body.
        limit: bytes that it may have.
        idle: seconds without data after which it is given up.

    Raises:
        Failure: it is too large (413), or stands still (408).
    """
    left = limit
    while True:
        try:
            async with asyncio.timeout(idle):
                part = await incoming.readany()
        except TimeoutError:
            raise _stands_still() from None
        if not part:
            return
        left -= len(part)
        if left < 0:
            raise too_large(limit, "upload_limit")
        yield part


def _stands_still() -> Failure:
    return Failure(
        408, "request_timeout", "The body did not come in time; proxy.idle_timeout is the limit"
    )
