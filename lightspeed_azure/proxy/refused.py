"""Azure's refusal of a token, as an answer of the stack tells it, and the repetition of a stream."""

from collections.abc import AsyncIterator

from multidict import CIMultiDict

from lightspeed_azure.clients.answer import Refused, raise_if_refused
from lightspeed_azure.clients.event_stream import Events
from lightspeed_azure.clients.held_stream import HeldStream, RepetitionFailedError, Send, Sent
from lightspeed_azure.proxy.answer import Answer, read_whole
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.proxy.headers import Headers

__all__ = ["Refused", "held_answer", "unless_refused"]


async def unless_refused(answer: Answer, headers: Headers, idle: float) -> Answer:
    """Return an answer; an error was looked at.

    Args:
        answer: the answer.
        headers: those of the request, as the stack got them.
        idle: seconds that an error may take to come.

    Raises:
        Refused: it says, or may say, that the provider rejected the token.
        Failure: the error does not arrive whole.
    """
    if answer.status < 400:
        return answer
    try:
        text = await read_whole(answer.text(), idle, headers.get("X-Request-ID", "-"))
    except BaseException:  # the caller may have left
        await answer.close()
        raise
    raise_if_refused(answer, answer.status, text or "")
    return answer


def held_answer(
    answer: Answer, sent: Sent, send_again: Send[Answer], *, may_repeat: bool
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
            raise RepetitionFailedError from None
        if not second.is_event_stream:
            await second.close()
            raise RepetitionFailedError
        return Events(second.parts, second.close)

    stream = HeldStream(Events(answer.parts, answer.close), sent, again, may_repeat=may_repeat)
    headers = CIMultiDict(answer.headers)
    headers.popall("Content-Length", None)  # comments and a repetition change it
    return Answer(answer.status, headers, _bytes(stream), stream.close)


async def _bytes(stream: HeldStream) -> AsyncIterator[bytes]:
    async for event in stream:
        yield event.raw
