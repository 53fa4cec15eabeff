"""A streamed response whose opening is held back, so that a refusal can be repeated unseen.

The stack answers a streamed `/v1/responses` with status 200 before it asks Azure; a refusal comes as
the event `response.failed` (llama-stack 0.7.3). Until then the caller has been shown nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self

from lightspeed_azure.clients.refusal import is_refused_event
from lightspeed_azure.errors import TokenError

OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
"""Events that tell only that a response has begun (openai-python, ResponseStreamEvent)."""


class RepetitionFailedError(Exception):
    """The repetition brought no stream: the first one is passed on as it came."""


type Send[Answer] = Callable[[], Awaitable[Answer]]
"""Sends a request once."""


class Hold(Protocol):
    """What `held` does, for the answers of one kind of client."""

    def __call__(
        self, answer: Any, refused: Callable[[], None], send_again: Send[Any], *, may_repeat: bool
    ) -> Any:
        """Return a streamed answer with its opening held back; another one as it is."""
        raise NotImplementedError


def held(
    answer: Any, refused: Callable[[], None], send_again: Send[Any], *, may_repeat: bool
) -> Any:
    """Return a client's stream with its opening held back; another answer as it is."""
    if not hasattr(answer, "__anext__"):
        return answer  # the raw response that the caller asked for
    return HeldStream(answer, refused, send_again, may_repeat=may_repeat)


class HeldStream:
    """The events of a response, as the stream of the stack's client gives them.

    Opening events are passed on once output, or the end, has come. If the first thing after them is
    Azure's refusal of the token, the request is sent once more instead. Nothing is repeated once
    output was passed on. Everything else, such as `response`, is the stream's own.

    Args:
        stream: what the client returned.
        refused: is told that the token was refused.
        send_again: sends the request once more.
        may_repeat: whether it may be; not when this is a repetition already.
    """

    def __init__(
        self,
        stream: Any,
        refused: Callable[[], None],
        send_again: Callable[[], Awaitable[Any]],
        *,
        may_repeat: bool = True,
    ) -> None:
        self._stream = stream
        self._refused = refused
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
        opening, first = await self._begun()
        goes_on = not isinstance(first, Exception)
        if may_repeat and is_refused_event(first):
            await self._stream.close()
            self._refused()
            try:
                self._stream = await self._send_again()
                opening, first = await self._begun()
                goes_on = not isinstance(first, Exception)
            except (TokenError, RepetitionFailedError):
                goes_on = False  # the stack's own failure, as it was told
        for event in opening:
            yield event
        if isinstance(first, Exception):
            raise first
        if first is not None:
            yield first
        if goes_on:
            async for event in self._stream:
                yield event

    async def _begun(self) -> tuple[list[Any], Any]:
        """Return the opening events, and what comes after them: an event, an error, or None."""
        opening: list[Any] = []
        while True:
            try:
                event = await anext(self._stream)
            except StopAsyncIteration:
                return opening, None
            except Exception as error:  # noqa: BLE001 - passed on once the opening was
                return opening, error
            if getattr(event, "type", None) not in OPENING:
                return opening, event
            opening.append(event)
