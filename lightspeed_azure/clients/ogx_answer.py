"""An answer of OGX as its client reads it: refused, or a stream whose opening is held back.

`call_api` returns a response that nobody has read yet; errors are made of it later.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from ogx_client.exceptions import ApiException

from lightspeed_azure.clients.event_stream import Events
from lightspeed_azure.clients.held_stream import HeldStream, Send
from lightspeed_azure.clients.refusal import is_azure_refusal, is_unexplained

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Refused(Exception):  # noqa: N818 - it becomes an answer again
    """An answer that says, or may say, that the provider rejected the token.

    Attributes:
        answer: the answer, read to its end.
        status_code: its HTTP status.
    """

    def __init__(self, answer: Any, text: str) -> None:
        super().__init__(text)
        self.answer = answer
        self.status_code = answer.status


async def unless_refused(answer: Any) -> Any:
    """Return an answer.

    Raises:
        Refused: it says, or may say, that the provider rejected the token.
    """
    if answer.status in (401, 500):
        refused = Refused(answer, (await answer.aread()).decode(errors="replace"))
        if is_azure_refusal(refused) or is_unexplained(refused):
            raise refused
    return answer


async def get_json(api: Any, path: str) -> Any:
    """Return what OGX answers to a path; its client's own types refuse an empty list."""
    answer = await api.call_api(*api.param_serialize("GET", path))
    text = await answer.aread()
    if answer.status != 200:
        raise ApiException(http_resp=answer, body=text.decode(errors="replace"))
    return json.loads(text)


def held_answer(
    answer: Any, refused: Callable[[], None], send_again: Send[Any], *, may_repeat: bool
) -> Any:
    """Return a streamed answer with its opening held back; another one as it is."""
    response: httpx.Response = answer.response
    if "text/event-stream" not in response.headers.get("content-type", ""):
        return answer

    async def again() -> Any:
        try:
            second = await send_again()
        except Refused as error:
            second = error.answer
        if second.status != 200:
            raise ApiException(http_resp=second, body=(await second.aread()).decode())
        return _events(second.response)

    answer.response = httpx.Response(
        response.status_code,
        headers=[item for item in response.headers.multi_items() if item[0] not in _OF_THE_WIRE],
        stream=_HeldBytes(HeldStream(_events(response), refused, again, may_repeat=may_repeat)),
        request=response.request,
    )
    return answer


def _events(response: httpx.Response) -> Events:
    return Events(response.aiter_bytes(), response.aclose)


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
