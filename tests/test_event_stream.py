"""Server-sent events: cut as they come, whatever the pieces, and never dearer than their length."""

from collections.abc import AsyncIterator

import pytest

from lightspeed_azure.clients.event_stream import _END_OF_EVENT, Event, Events
from lightspeed_azure.clients.held_stream import HeldStream

CREATED = b'data: {"type": "response.created"}\n\n'
REFUSED = (
    b'data: {"type": "response.failed", "response": {"error": {"message": '
    b'"Access token is missing, invalid, audience is incorrect, or have expired."}}}\n\n'
)
DELTA = b'event: x\ndata: {"type": "response.output_text.delta"}\n\n'


def events(*parts: bytes) -> Events:
    """Return the events of a body that comes in these parts."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def close() -> None:
        pass

    return Events(body(), close)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_pieces_and_newlines_change_nothing(newline: bytes, size: int) -> None:
    """Each event comes whole, and the bytes are those that were sent."""
    sent = b"".join([CREATED, DELTA, b"data: the last has no end"]).replace(b"\n", newline)
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    found = [event async for event in events(*parts)]
    assert [getattr(event, "type", None) for event in found] == [
        "response.created",
        "response.output_text.delta",
        None,
    ]
    assert b"".join(event.raw for event in found) == sent


@pytest.mark.parametrize("comment", [b": ping\n\n", b":\r\n\r\n", b"\n\n", b"event: ping\n\n"])
async def test_a_comment_does_not_hide_a_refusal(comment: bytes) -> None:
    """A server keeps a stream alive with them while Azure thinks; the request is still repeated."""
    refused: list[bool] = []

    async def again() -> Events:
        return events(comment, CREATED, comment, DELTA, comment)

    first = events(comment, comment, CREATED, comment, REFUSED)
    stream = HeldStream(first, lambda: refused.append(True), again)
    found = [event.raw async for event in stream]
    assert refused == [True]
    assert b"".join(found) == comment + CREATED + comment + DELTA + comment


async def test_a_long_event_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of some megabytes, a picture, must not stop the event loop for seconds."""
    searched: list[int] = []

    class Counting:
        def search(self, buffer: bytearray, start: int = 0) -> object:
            searched.append(len(buffer) - start)
            return _END_OF_EVENT.search(buffer, start)

    monkeypatch.setattr("lightspeed_azure.clients.event_stream._END_OF_EVENT", Counting())
    parts = [b"data: ", *[b"x" * 1000] * 1000, b"\n", b"\n"]
    assert len([event async for event in events(*parts)]) == 1
    assert sum(searched) < 2 * sum(map(len, parts))


async def test_json_of_any_depth_is_passed_on() -> None:
    """What cannot be read is not ours to refuse."""
    deep = b"data: " + b"[" * 200_000 + b"\n\n"
    (event,) = [event async for event in events(deep)]
    assert isinstance(event, Event)
    assert getattr(event, "type", None) is None
