"""A streamed response whose opening is held back, so that a refusal can be repeated unseen.

The stack answers a streamed `/v1/responses` with status 200 before it asks Azure; a refusal comes as
the event `response.failed` (llama-stack 0.7.3). Until then the caller has been shown nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self

from lightspeed_azure.clients.event_stream import NOTHING, STILL_HELD, Event, Events
from lightspeed_azure.clients.refusal import is_refused_event
from lightspeed_azure.errors import TokenError

OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
"""Events that tell only that a response has begun (openai-python, ResponseStreamEvent)."""

_FAILED = frozenset({"response.failed", "error"})
"""Events that end a response without telling whether the token was accepted."""


class RepetitionFailedError(Exception):
    """The repetition brought no stream: the first one is passed on as it came."""


type Send[Answer] = Callable[[], Awaitable[Answer]]
"""Sends a request once."""


class Sent(Protocol):
    """The request whose answer is held back."""

    def refused(self) -> bool:
        """Note that the token was refused; return whether another token can be sent."""
        raise NotImplementedError

    def accepted(self) -> None:
        """Note that the token was accepted."""
        raise NotImplementedError


class Hold(Protocol):
    """What `held` does, for the answers of one kind of client."""

    def __call__(self, answer: Any, sent: Sent, send_again: Send[Any], *, may_repeat: bool) -> Any:
        """Return a streamed answer with its opening held back; another one as it is."""
        raise NotImplementedError


def held(answer: Any, sent: Sent, send_again: Send[Any], *, may_repeat: bool) -> Any:
    """Return a client's stream with its opening held back; another answer as it is."""
    if not hasattr(answer, "__anext__"):
        return answer  # the raw response that the caller asked for
    return HeldStream(answer, sent, send_again, may_repeat=may_repeat)


class HeldStream:
    """The events of a response, as the stream of the stack's client gives them.

    Opening events are passed on once output, or the end, has come. If the first thing after them is
    Azure's refusal of the token, the request is sent once more instead. Nothing is repeated once
    output was passed on. Everything else, such as `response`, is the stream's own.

    In a stream of bytes, everything that arrives while the opening is held gives the caller
    something: a comment is passed on, a repeated opening event shows as a comment, and anything
    else shows as an empty piece, which only restarts the time limits of those who wait.

    Args:
        stream: what the client returned.
        sent: the request; it is told whether the token was refused or accepted.
        send_again: sends the request once more.
        may_repeat: whether it may be; not when this is a repetition already.
    """

    def __init__(
        self,
        stream: Any,
        sent: Sent,
        send_again: Callable[[], Awaitable[Any]],
        *,
        may_repeat: bool = True,
    ) -> None:
        self._stream = stream
        self._sent = sent
        self._send_again = send_again
        self._events = self._passed_on(may_repeat=may_repeat)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":
            raise AttributeError(name)  # an instance without __init__: copy, pickle
        return getattr(self._stream, name)

    async def __anext__(self) -> Any:
        return await anext(self._events)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connection."""
        await self._stream.close()

    async def _passed_on(self, *, may_repeat: bool) -> AsyncIterator[Any]:
        begun: list[Any] = []
        async for sign in self._begun(begun):
            yield sign
        goes_on = True
        if self._was_refused(begun) and may_repeat:
            await self._stream.close()
            try:
                self._stream = await self._send_again()
                begun = []
                async for sign in self._begun(begun):
                    yield sign
                self._was_refused(begun)
            except (TokenError, RepetitionFailedError):
                goes_on = False  # the stack's own failure, as it was told
        for event in begun:
            if isinstance(event, Exception):
                raise event
            yield event
        if goes_on:
            async for event in self._stream:
                yield event

    async def _begun(self, begun: list[Any]) -> AsyncIterator[Any]:
        """Collect the opening events, and what comes after them: an event, an error, or nothing.

        Yields what the caller gets meanwhile.
        """
        seen: set[Any] = set()
        while True:
            try:
                event = await anext(self._stream)
            except StopAsyncIteration:
                return
            except Exception as error:  # noqa: BLE001 - passed on once the opening was
                begun.append(error)
                return
            if isinstance(event, Event) and event.is_sign:
                yield event
                continue
            begun.append(event)
            kind = getattr(event, "type", None)
            if kind not in OPENING:
                if isinstance(self._stream, Events):
                    self._stream.pass_through()
                return
            if isinstance(event, Event):
                yield STILL_HELD if kind in seen else NOTHING
            seen.add(kind)

    def _was_refused(self, begun: list[Any]) -> bool:
        """Return whether the token was refused, and another one can be sent."""
        if not begun or isinstance(begun[-1], Exception):
            return False
        if is_refused_event(begun[-1]):
            return self._sent.refused()
        kind = getattr(begun[-1], "type", None)
        if kind is not None and kind not in OPENING | _FAILED:
            self._sent.accepted()
        return False
