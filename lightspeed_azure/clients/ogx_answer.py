"""An answer of OGX as its client reads it: refused, or a stream whose opening is held back.

`call_api` returns a response that nobody has read yet; errors are made of it later.
"""

import functools
import json
import re
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
from ogx_client.exceptions import ApiException

from lightspeed_azure.clients.held_stream import HeldStream, Send
from lightspeed_azure.clients.refusal import is_azure_refusal

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
"""https://html.spec.whatwg.org/multipage/server-sent-events.html."""

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Refused(Exception):  # noqa: N818 - it becomes an answer again
    """An answer that says that Azure rejected the token.

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
        Refused: it says that Azure rejected the token.
    """
    if answer.status in (401, 500):
        refused = Refused(answer, (await answer.aread()).decode(errors="replace"))
        if is_azure_refusal(refused):
            raise refused
    return answer


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
        return _Events(second.response)

    answer.response = httpx.Response(
        response.status_code,
        headers=[item for item in response.headers.multi_items() if item[0] not in _OF_THE_WIRE],
        stream=_HeldBytes(HeldStream(_Events(response), refused, again, may_repeat=may_repeat)),
        request=response.request,
    )
    return answer


class _Event:
    """One server-sent event, as it came; read only where someone asks what it is."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read, name)

    @functools.cached_property
    def _read(self) -> Any:
        data = b"\n".join(
            line.removeprefix(b"data:")
            for line in self.raw.splitlines()
            if line.startswith(b"data:")
        )
        try:
            return json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields))
        except (ValueError, TypeError):
            return SimpleNamespace()


class _Events:
    """The events of a response."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._events = self._split()

    def __aiter__(self) -> AsyncIterator[_Event]:
        return self._events

    async def __anext__(self) -> _Event:
        return await anext(self._events)

    async def _split(self) -> AsyncIterator[_Event]:
        buffer = b""
        async for part in self._response.aiter_bytes():
            buffer += part
            while end := _END_OF_EVENT.search(buffer):
                yield _Event(buffer[: end.end()])
                buffer = buffer[end.end() :]
        if buffer:
            yield _Event(buffer)

    async def close(self) -> None:
        await self._response.aclose()


class _HeldBytes(httpx.AsyncByteStream):
    """What a held stream passes on, as bytes again."""

    def __init__(self, events: HeldStream) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event.raw

    async def aclose(self) -> None:
        await self._events.close()
