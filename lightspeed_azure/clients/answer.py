"""An answer of the stack as httpx has it: refused, or a stream whose opening is held back."""

from collections.abc import AsyncIterator
from typing import Any

import httpx

from lightspeed_azure.clients.event_stream import Events
from lightspeed_azure.clients.held_stream import HeldStream, RepetitionFailedError, Send, Sent
from lightspeed_azure.clients.refusal import is_azure_refusal, is_unexplained

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Refused[Answer](Exception):  # noqa: N818 - it becomes an answer again
    """An answer that says, or may say, that the provider rejected the token.

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
        Refused: it says, or may say, that the provider rejected the token.
    """
    refused = Refused(answer, status, text)
    if is_azure_refusal(refused) or is_unexplained(refused):
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


async def unless_refused(response: httpx.Response) -> httpx.Response:
    """Return an answer; one that may be a refusal was read, and can be read again.

    Raises:
        Refused: it says, or may say, that the provider rejected the token.
    """
    if not may_be_refused(response.status_code):
        return response
    content = await response.aread()
    read = httpx.Response(
        response.status_code,
        headers=decoded_headers(response),
        content=content,
        extensions=response.extensions,
    )
    raise_if_refused(read, read.status_code, content.decode(errors="replace"))
    return read


def held_response(
    answer: httpx.Response, sent: Sent, send_again: Send[Any], *, may_repeat: bool
) -> httpx.Response:
    """Return a streamed answer with its opening held back; another one as it is."""
    if not is_event_stream(answer):
        return answer

    async def again() -> Any:
        try:
            second = await send_again()
        except Refused as error:
            raise RepetitionFailedError from error
        if second.status_code != 200:
            await second.aclose()
            raise RepetitionFailedError
        return events_of(second)

    held = HeldStream(events_of(answer), sent, again, may_repeat=may_repeat)
    return with_events(answer, held)


class _HeldBytes(httpx.AsyncByteStream):
    """What a held stream passes on, as bytes again."""

    def __init__(self, events: HeldStream) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for event in self._events:
                yield event.raw
        finally:
            await self._events.close()  # where the caller goes away, at once

    async def aclose(self) -> None:
        await self._events.close()
