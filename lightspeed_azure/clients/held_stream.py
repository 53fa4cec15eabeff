"""A streamed response whose opening is held back, so that a refusal can be repeated unseen.

The stack answers a streamed `/v1/responses` with status 200 before it asks Azure; a refusal comes as
the event `response.failed` (llama-stack 0.7.3). Until then the caller has been shown nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from lightspeed_azure.clients.refusal import is_refused_event

OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
"""Events that tell only that a response has begun (openai-python, ResponseStreamEvent)."""


class HeldStream:
    """The events of a response, as the stream of the stack's client gives them.

    Opening events are passed on once output, or the end, has come. If the first thing after them is
    Azure's refusal of the token, the request is sent once more instead. Nothing is repeated once
    output was passed on. Everything else, such as `response`, is the stream's own.

    Args:
        stream: what the client returned.
        refused: is told that the token was refused.
        send_again: sends the request once more.
    """

    def __init__(
        self, stream: Any, refused: Callable[[], None], send_again: Callable[[], Awaitable[Any]]
    ) -> None:
        self._stream = stream
        self._refused = refused
        self._send_again = send_again
        self._events = self._passed_on()

    def __getattr__(self, name: str) -> Any:
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

    async def _passed_on(self) -> AsyncIterator[Any]:
        may_repeat = True
        while True:
            held: list[Any] | None = []
            repeat = False
            async for event in self._stream:
                if held is not None:
                    if getattr(event, "type", None) in OPENING:
                        held.append(event)
                        continue
                    if may_repeat and is_refused_event(event):
                        repeat = True
                        break
                    for early in held:
                        yield early
                    held = None
                yield event
            if not repeat:
                for early in held or ():
                    yield early
                return
            may_repeat = False
            await self._stream.close()
            self._refused()
            self._stream = await self._send_again()
