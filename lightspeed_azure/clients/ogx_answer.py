"""An answer of OGX as its client reads it: refused, or a stream whose opening is held back.

`call_api` returns a response that nobody has read yet; errors are made of it later.
"""

import json
from typing import Any

import httpx
from ogx_client.exceptions import ApiException

from lightspeed_azure.clients.answer import (
    Refused,
    events_of,
    is_event_stream,
    may_be_refused,
    raise_if_refused,
    with_events,
)
from lightspeed_azure.clients.held_stream import HeldStream, Send, Sent


async def unless_refused(answer: Any) -> Any:
    """Return an answer.

    Raises:
        Refused: it says, or may say, that the provider rejected the token.
    """
    if may_be_refused(answer.status):
        raise_if_refused(answer, answer.status, (await answer.aread()).decode(errors="replace"))
    return answer


async def get_json(api: Any, path: str) -> Any:
    """Return what OGX answers to a path; its client's own types refuse an empty list."""
    answer = await api.call_api(*api.param_serialize("GET", path))
    text = await answer.aread()
    if answer.status != 200:
        raise ApiException(http_resp=answer, body=text.decode(errors="replace"))
    return json.loads(text)


def held_answer(answer: Any, sent: Sent, send_again: Send[Any], *, may_repeat: bool) -> Any:
    """Return a streamed answer with its opening held back; another one as it is."""
    response: httpx.Response = answer.response
    if not is_event_stream(response):
        return answer

    async def again() -> Any:
        try:
            second = await send_again()
        except Refused as error:
            second = error.answer
        if second.status != 200:
            raise ApiException(http_resp=second, body=(await second.aread()).decode())
        return events_of(second.response)

    held = HeldStream(events_of(response), sent, again, may_repeat=may_repeat)
    answer.response = with_events(response, held)
    answer.response.request = response.request
    return answer
