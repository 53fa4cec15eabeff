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


class Event:
    """One event, as it came; its fields are those of the JSON in it.

    Attributes:
        raw: its bytes, with the blank line that ends it.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

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


class Events:
    """The events of a response.

    Args:
        parts: the bytes of the body, decoded, in whatever pieces they come.
        close: releases the connection.
    """

    def __init__(self, parts: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._parts = parts
        self.close = close
        self._events = self._split()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def _split(self) -> AsyncIterator[Event]:
        """Cut the body into events; what has no data, such as a comment, goes with the next one."""
        buffer, searched, begun = bytearray(), 0, 0
        async for part in self._parts:
            buffer += part
            while end := _END_OF_EVENT.search(buffer, searched):
                searched = end.end()
                if _DATA.search(buffer, max(begun - 1, 0), searched):
                    yield Event(bytes(buffer[:searched]))
                    del buffer[:searched]
                    searched = 0
                begun = searched
            searched = max(begun, len(buffer) - _END_LENGTH + 1)
        if buffer:
            yield Event(bytes(buffer))
