"""Server-sent events, as they come over the wire: whole events of bytes, read only where needed."""

import functools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
"""https://html.spec.whatwg.org/multipage/server-sent-events.html."""

_END_LENGTH = 4
"""Bytes that the end of an event has at most: it may come in two parts."""

_DATA = re.compile(rb"(?:^|[\r\n])data")
"""Where an event's data begins: clients pass over one that has none."""


_COMMENT = re.compile(rb"(?::[^\r\n]*[\r\n]|[\r\n])*")
"""Nothing but comment lines: clients ignore them, so they may be sent between any two events."""


class Event:
    """One event, as it came; its fields are those of the JSON in it.

    Attributes:
        raw: its bytes, with the blank line that ends it.
        is_sign: it is no event, and says only that the stream is alive.
    """

    def __init__(self, raw: bytes, *, is_sign: bool = False) -> None:
        self.raw = raw
        self.is_sign = is_sign

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read, name)

    @functools.cached_property
    def _read(self) -> Any:
        data = b"\n".join(
            line.removeprefix(b"data:")
            for line in self.raw.splitlines()
            if line.startswith(b"data:")
        )
        try:
            return json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields))
        except (ValueError, TypeError, RecursionError):
            return SimpleNamespace()


NOTHING = Event(b"", is_sign=True)
"""Something came that the caller is not shown."""

STILL_HELD = Event(b":\n\n", is_sign=True)
"""A comment."""


class Events:
    """The events of a response.

    Each part of the body yields something: its events, its comments, or `NOTHING`.

    Args:
        parts: the bytes of the body, decoded, in whatever pieces they come.
        close: releases the connection.
    """

    def __init__(self, parts: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._parts = parts
        self.close = close
        self._is_passed_through = False
        self._events = self._split()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    def pass_through(self) -> None:
        """Yield the body as it comes from now on; its events are no longer read."""
        self._is_passed_through = True

    async def _split(self) -> AsyncIterator[Event]:
        """Cut the body into events; what has no data and is no comment goes with the next one."""
        buffer, searched, begun = bytearray(), 0, 0
        async for part in self._parts:
            buffer += part
            is_shown = False
            while not self._is_passed_through and (end := _END_OF_EVENT.search(buffer, searched)):
                searched = end.end()
                is_event = _DATA.search(buffer, max(begun - 1, 0), searched)
                if is_event or _COMMENT.fullmatch(buffer, 0, searched):
                    found = Event(bytes(buffer[:searched]), is_sign=not is_event)
                    del buffer[:searched]
                    searched = 0
                    is_shown = True
                    yield found
                begun = searched
            if self._is_passed_through:
                yield Event(bytes(buffer))
                buffer.clear()
                continue
            searched = max(begun, len(buffer) - _END_LENGTH + 1)
            if not is_shown:
                yield NOTHING
        if buffer:
            yield Event(bytes(buffer))
