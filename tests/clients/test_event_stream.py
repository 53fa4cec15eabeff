"""Server-sent events: cut as they come, whatever the pieces, and never dearer than their length."""

from collections.abc import AsyncIterator

import pytest
from fake_stack import Asked

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
    found = [event async for event in events(*parts) if not event.is_sign]
    assert [getattr(event, "type", None) for event in found] == [
        "response.created",
        "response.output_text.delta",
        None,
    ]
    assert b"".join(event.raw for event in found) == sent


@pytest.mark.parametrize("comment", [b": ping\n\n", b":\r\n\r\n", b"\n\n", b"event: ping\n\n"])
async def test_a_comment_does_not_hide_a_refusal(comment: bytes) -> None:
    """A server keeps a stream alive with them while Azure thinks; the request is still repeated."""
    asked = Asked()

    async def again() -> Events:
        return events(comment, CREATED, comment, DELTA, comment)

    first = events(comment, comment, CREATED, comment, REFUSED)
    stream = HeldStream(first, asked, again)
    found = b"".join([event.raw async for event in stream])
    assert asked.told == ["refused", "accepted"]
    assert found.startswith(comment) or comment == b"event: ping\n\n"
    data = [line for line in found.splitlines() if line.startswith(b"data")]
    assert data == [line for line in (CREATED + DELTA).splitlines() if line.startswith(b"data")]


async def test_all_that_comes_while_the_opening_is_held_gives_something() -> None:
    """Whoever waits sees comments, and has its time limits restarted by the rest."""
    in_progress = CREATED.replace(b"created", b"in_progress")
    parts = [CREATED, b": ping\n\n", in_progress, in_progress, b"data: {", b'"a"', b": 1}\n\n"]
    told: list[bytes] = []
    coming: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            coming.append(part)
            yield part

    async def close() -> None:
        pass

    async def never() -> Events:
        raise AssertionError

    async for event in HeldStream(Events(body(), close), Asked(), never):
        told.append(event.raw)
        if len(told) < len(parts):
            assert len(coming) == len(told), "the caller gets something for each part"
    assert told[:6] == [b"", b": ping\n\n", b"", b":\n\n", b"", b""]
    assert b"".join(told[6:]) == b"".join([CREATED, in_progress, in_progress, *parts[4:]])


async def test_after_the_opening_all_is_passed_on_as_it_comes() -> None:
    """Comments and halves of events, which nobody holds back any more."""

    async def never() -> Events:
        raise AssertionError

    parts = [CREATED + DELTA + b"data: 1", b"\n\n", b": ping\n", b"\n", b": the end"]
    stream = HeldStream(events(*parts), Asked(), never)
    told = [event.raw async for event in stream]
    assert told == [b"", CREATED, DELTA, b"data: 1", *parts[1:]]


@pytest.mark.parametrize("may", [True, False])
async def test_a_stream_is_repeated_only_where_another_token_can_be_sent(*, may: bool) -> None:
    """A new token that is refused too is not replaced, and the caller gets the refusal."""
    asked = Asked(may=may)
    sends: list[bool] = []

    async def again() -> Events:
        sends.append(True)
        return events(CREATED, DELTA)

    stream = HeldStream(events(CREATED, REFUSED), asked, again)
    found = b"".join([event.raw async for event in stream])
    assert found == CREATED + (DELTA if may else REFUSED)
    assert len(sends) == may


async def test_a_stream_that_may_not_be_repeated_notes_the_refusal() -> None:
    """The refused token is dropped for the next request."""
    asked = Asked()

    async def never() -> Events:
        raise AssertionError

    stream = HeldStream(events(CREATED, REFUSED), asked, never, may_repeat=False)
    assert b"".join([event.raw async for event in stream]) == CREATED + REFUSED
    assert asked.told == ["refused"]


async def test_a_long_event_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of some megabytes, a picture, must not stop the event loop for seconds."""
    searched: list[int] = []

    class Counting:
        def search(self, buffer: bytearray, start: int = 0) -> object:
            searched.append(len(buffer) - start)
            return _END_OF_EVENT.search(buffer, start)

    monkeypatch.setattr("lightspeed_azure.clients.event_stream._END_OF_EVENT", Counting())
    parts = [b"data: ", *[b"x" * 1000] * 1000, b"\n", b"\n"]
    assert len([event async for event in events(*parts) if not event.is_sign]) == 1
    assert sum(searched) < 2 * sum(map(len, parts))


async def test_json_of_any_depth_is_passed_on() -> None:
    """What cannot be read is not ours to refuse."""
    deep = b"data: " + b"[" * 200_000 + b"\n\n"
    (event,) = [event async for event in events(deep) if not event.is_sign]
    assert isinstance(event, Event)
    assert getattr(event, "type", None) is None
