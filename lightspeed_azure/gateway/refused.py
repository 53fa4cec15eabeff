"""Azure's refusal of a token, as an answer of the stack tells it, and the repetition of a stream."""

from collections.abc import AsyncIterator, Callable

from lightspeed_azure.clients.answer import Refused, may_be_refused, raise_if_refused
from lightspeed_azure.clients.event_stream import Events
from lightspeed_azure.clients.held_stream import HeldStream, Send
from lightspeed_azure.errors import TokenUnavailableError
from lightspeed_azure.gateway.answer import Answer
from lightspeed_azure.gateway.failures import Failure

__all__ = ["Refused", "held_answer", "unless_refused"]


async def unless_refused(answer: Answer) -> Answer:
    """Return an answer.

    Raises:
        Refused: it says, or may say, that the provider rejected the token.
    """
    if may_be_refused(answer.status):
        raise_if_refused(answer, answer.status, await answer.text())
    return answer


def held_answer(
    answer: Answer, refused: Callable[[], None], send_again: Send[Answer], *, may_repeat: bool
) -> Answer:
    """Return a streamed answer with its opening held back; another one as it is."""
    if not answer.is_event_stream:
        return answer

    async def again() -> Events:
        try:
            second = await send_again()
        except Refused as error:
            second = error.answer
        except Failure:
            raise TokenUnavailableError("The stack gave no second answer") from None
        if not second.is_event_stream:
            await second.close()
            raise TokenUnavailableError("The stack's second answer is no stream")
        return Events(second.parts, second.close)

    stream = HeldStream(Events(answer.parts, answer.close), refused, again, may_repeat=may_repeat)
    return Answer(answer.status, answer.headers, _bytes(stream), stream.close)


async def _bytes(stream: HeldStream) -> AsyncIterator[bytes]:
    async for event in stream:
        yield event.raw
