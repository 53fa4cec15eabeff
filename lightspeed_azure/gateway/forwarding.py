"""One request to the stack and its answer back, with the provider data of the moment."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lightspeed_azure.clients.inference_call import Call, Calls
from lightspeed_azure.clients.listing import ask
from lightspeed_azure.clients.stack_catalog import StackCatalog
from lightspeed_azure.config.proxy import OURS, ProxyConfiguration
from lightspeed_azure.gateway.bodies import Upload, parsed, too_large, whole
from lightspeed_azure.gateway.failures import Failure
from lightspeed_azure.gateway.headers import (
    Headers,
    RequestCleaner,
    UnreadableHeaderError,
    clean_answer,
)
from lightspeed_azure.gateway.refused import Refused, held_answer, unless_refused
from lightspeed_azure.gateway.routes import Route
from lightspeed_azure.gateway.upstream import Answer, Upstream
from lightspeed_azure.gateway.waiting import Timed
from lightspeed_azure.manager import AzureEntraIDManager
from lightspeed_azure.metrics import Tracked
from lightspeed_azure.provider_data import encode, merge, parse

_logger = logging.getLogger(__name__)

SERVER = "lightspeed-azure"

_UNLESS_GIVEN = (("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", SERVER))
"""What aiohttp would add otherwise in words of its own, which mean more than nothing does."""

AT_ONCE = 64 * 1024
"""Bytes up to which an answer that says its length is sent in one piece."""

CLOSE_LIMIT = 5.0
"""Seconds that a caller may take to read the rest when an answer broke off."""

_BREAKS_OFF = b'data: {"error": {"message": "The stack\'s answer broke off", "type": "server_error", "param": null, "code": "stream_interrupted"}}\n\n'


class Forwarding:
    """Sends requests on to the stack. Use it from one event loop.

    Args:
        upstream: the stack.
        manager: whose tokens inference requests carry.
        config: what is let through, and how long is waited.
        waited: is told the seconds that a request waited for a token.
    """

    def __init__(
        self,
        upstream: Upstream,
        manager: AzureEntraIDManager,
        config: ProxyConfiguration,
        *,
        waited: Callable[[float], None],
    ) -> None:
        self._upstream = upstream
        self._manager = manager
        self._config = config
        self._waited = waited
        self._cleaner = RequestCleaner(config.strip_headers)
        self._allowed = frozenset(name.lower() for name in config.provider_data) - {*OURS}
        self._catalog = StackCatalog(
            functools.partial(ask, upstream.get_json), learned=self._learned
        )
        self._calls: Calls | None = None
        self._header = ""

    async def __call__(
        self, request: web.BaseRequest, route: Route, request_id: str, tracked: Tracked
    ) -> web.StreamResponse:
        """Send a request on, and its answer back.

        Raises:
            Failure: there is none.
            LightspeedAzureError: no token can be had, or the stack does not say what it serves.
        """
        try:
            headers, provider_data = self._cleaner.clean(request.headers)
        except UnreadableHeaderError as error:
            raise Failure(400, "invalid_header", str(error)) from None
        headers["X-Request-ID"] = request_id
        for name, value in _UNLESS_GIVEN:
            if name not in headers:
                headers[name] = value
        if self._upstream.authorization:
            headers["Authorization"] = self._upstream.authorization
        own = self._let_through(provider_data)
        if route.is_inference:
            answer = await self._infer(request, route, headers, own, tracked)
        else:
            answer = await self._pass(request, headers, own, tracked)
        try:
            return await self._answered(request, answer, request_id, tracked)
        finally:
            await answer.close()

    async def _infer(
        self,
        request: web.BaseRequest,
        route: Route,
        headers: Headers,
        own: list[str],
        tracked: Tracked,
    ) -> Answer:
        """Send an inference request: its body is read, and it is sent twice where that helps."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            text = "The body of an inference request must not be compressed"
            raise Failure(415, "content_encoding", text)
        config = self._config
        with tracked.elsewhere():
            body = await whole(
                request.content, request.content_length, config.body_limit, config.idle_timeout
            )
        data = parsed(body)
        headers["Accept-Encoding"] = "identity"  # an error is read, and so are the events
        calls = self._calls or await self._known()
        call = await calls.of(
            "POST",
            route.path,
            data,
            default_data={},
            call_data=own,
            stream=bool(data.get("stream")),
        )

        async def send() -> Answer:
            with tracked.elsewhere():
                value = await Timed(call.header(), self._waited)
            if value is not None:
                headers[self._header] = value
            with tracked.elsewhere():
                answer = await self._upstream.send("POST", request.raw_path, headers, body)
                return await unless_refused(answer)

        try:
            return await call.sent_by(send, held_answer)
        except Refused as refused:
            return refused.answer

    async def _pass(
        self, request: web.BaseRequest, headers: Headers, own: list[str], tracked: Tracked
    ) -> Answer:
        """Send any other request; its body is passed on as it comes."""
        if own:
            await self._known()
            headers[self._header] = await Call(parse(own[0])).header() or "{}"
        upload: Upload | None = None
        if request.can_read_body:
            config = self._config
            length = request.content_length
            if length is not None:
                if length > config.upload_limit:
                    raise too_large(config.upload_limit, "upload_limit")
                headers["Content-Length"] = str(length)
            upload = Upload(request.content, config.upload_limit, config.idle_timeout)
        body = None if upload is None else aiter(upload)
        try:
            with tracked.elsewhere():
                return await self._upstream.send(request.method, request.raw_path, headers, body)
        except Failure:
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            raise

    async def _answered(
        self, request: web.BaseRequest, answer: Answer, request_id: str, tracked: Tracked
    ) -> web.StreamResponse:
        """Pass an answer on, piece by piece as it comes; a slow reader slows the stack down."""
        headers = clean_answer(answer.headers, self._upstream.origin)
        headers["X-Request-ID"] = request_id
        headers["Server"] = SERVER
        if answer.length is not None and answer.length <= AT_ONCE and request.method != "HEAD":
            body = answer.at_once()  # most often all of it is here
            if body is None:
                with tracked.elsewhere():
                    body = await self._whole(answer, request_id)
            headers.popall("Content-Length", None)
            tracked.first_byte()
            return web.Response(status=answer.status, body=body, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        tracked.first_byte()
        await response.prepare(request)
        part = b"\n\n"
        idle = self._config.idle_timeout
        try:
            async with asyncio.timeout(idle) as timer:
                time = asyncio.get_running_loop().time
                async for part in answer.parts:
                    await response.write(part)
                    timer.reschedule(time() + idle)
        except ConnectionResetError:
            raise  # the caller has left
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller must see that it is not whole
            _logger.warning("An answer broke off: %s, request %s", type(error).__name__, request_id)
            await _break_off(request, response, answer, part)
            raise ConnectionResetError("The stack's answer broke off") from None
        return response

    async def _whole(self, answer: Answer, request_id: str) -> bytes:
        """Return a short body; nothing was sent yet where it breaks off."""
        try:
            async with asyncio.timeout(self._config.idle_timeout):
                return b"".join([part async for part in answer.parts])
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no whole answer
            _logger.warning("An answer broke off: %s, request %s", type(error).__name__, request_id)
            if isinstance(error, TimeoutError):
                text = "The stack's answer stood still; proxy.idle_timeout is the limit"
                raise Failure(504, "idle_timeout", text) from None
            text = "The stack's answer broke off"
            raise Failure(502, "answer_interrupted", text) from None

    def _let_through(self, provider_data: list[str]) -> list[str]:
        """Return what of the caller's own provider data is for others, as one value or none.

        Raises:
            ProviderDataError: it is not a JSON object.
        """
        if not provider_data or not self._allowed:
            return []
        given = merge(parse(value) for value in provider_data)
        fields = {name: given[name] for name in given if name.lower() in self._allowed}
        return [encode(fields)] if fields else []

    async def _known(self) -> Calls:
        """Return what decides about requests; the stack is asked for its generation once."""
        if self._calls is None:
            generation = await self._upstream.generation()
            self._header = generation.header
            self._calls = Calls(
                lambda: self._manager,
                self._catalog,
                key_per_provider=generation.key_per_provider,
            )
        return self._calls

    def _learned(self, listing: Any) -> None:
        first = next(iter(listing.azure_providers), None)
        if first is not None and first.base_url and self._manager.azure_base_url is None:
            self._manager.set_base_url(first.base_url)


async def _break_off(
    request: web.BaseRequest, response: web.StreamResponse, answer: Answer, last: bytes
) -> None:
    """End an answer so that the caller sees that it is not whole."""
    if answer.is_event_stream and last.endswith((b"\n\n", b"\r\n\r\n")):
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1):
                await response.write(_BREAKS_OFF)
    if request.transport is not None:  # one that does not read would keep it open
        asyncio.get_running_loop().call_later(CLOSE_LIMIT, request.transport.abort)
    request.protocol.force_close()
