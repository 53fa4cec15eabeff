"""An answer of the stack as httpx has it: refused, or a stream whose opening is held back."""

from collections.abc import AsyncIterator

import httpx

from lightspeed_azure.clients.event_stream import Events
from lightspeed_azure.clients.held_stream import HeldStream
from lightspeed_azure.clients.refusal import is_azure_refusal

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Refused[Answer](Exception):  # noqa: N818 - it becomes an answer again
    """An answer that says that Azure rejected the token.

    Attributes:
        answer: the answer, read to its end.
        status_code: its HTTP status.
    """

    def __init__(self, answer: Answer, status_code: int, text: str) -> None:
        super().__init__(text)
        self.answer = answer
        self.status_code = status_code


def may_be_refused(status: int) -> bool:
    """Return whether an answer of this status may be Azure's refusal, and is worth reading."""
    return status in (401, 500)


def raise_if_refused(answer: object, status: int, text: str) -> None:
    """Look at an answer that was read.

    Raises:
        Refused: it says that Azure rejected the token.
    """
    refused = Refused(answer, status, text)
    if is_azure_refusal(refused):
        raise refused


def is_event_stream(response: httpx.Response) -> bool:
    """Return whether the body is server-sent events."""
    return "text/event-stream" in response.headers.get("content-type", "")


def events_of(response: httpx.Response) -> Events:
    """Return the events of a response that nobody has read yet."""
    return Events(response.aiter_bytes(), response.aclose)


def with_events(response: httpx.Response, events: HeldStream) -> httpx.Response:
    """Return the response with other events in it."""
    return httpx.Response(
        response.status_code,
        headers=decoded_headers(response),
        stream=_HeldBytes(events),
        extensions=response.extensions,
    )


def decoded_headers(response: httpx.Response) -> list[tuple[str, str]]:
    """Return the headers but for those of a body as it came over the wire."""
    items = response.headers.multi_items()
    return [item for item in items if item[0].lower() not in _OF_THE_WIRE]


class _HeldBytes(httpx.AsyncByteStream):
    """What a held stream passes on, as bytes again."""

    def __init__(self, events: HeldStream) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event.raw

    async def aclose(self) -> None:
        await self._events.close()
