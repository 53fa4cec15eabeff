"""One request to the stack and its answer back, with the provider data of the moment."""

import functools
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from lightspeed_azure.clients.inference_call import Call, Calls
from lightspeed_azure.clients.learned import learned
from lightspeed_azure.clients.listing import ask
from lightspeed_azure.clients.stack_catalog import StackCatalog
from lightspeed_azure.config.proxy import OURS, ProxyConfiguration
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.metrics import Tracked
from lightspeed_azure.provider_data import encode, merge, parse
from lightspeed_azure.proxy.answer import SERVER, Answer, Answering
from lightspeed_azure.proxy.bodies import parsed, too_large, upload, whole
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.proxy.headers import (
    Headers,
    RequestCleaner,
    UnreadableHeaderError,
)
from lightspeed_azure.proxy.refused import Refused, held_answer, unless_refused
from lightspeed_azure.proxy.routes import Route
from lightspeed_azure.proxy.timing import Timed
from lightspeed_azure.proxy.tracing import Tracing
from lightspeed_azure.proxy.upstream import Upstream
from lightspeed_azure.proxy.withholding import Attached, without_credentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_logger = logging.getLogger(__name__)

_UNLESS_GIVEN = (("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", SERVER))
"""What aiohttp would add otherwise in words of its own, which mean more than nothing does."""


class Forwarding:
    """Sends requests on to the stack. Use it from one event loop.

    Args:
        upstream: the stack.
        manager: whose tokens inference requests carry.
        credentials: the keys of other providers.
        config: what is let through, and how long is waited.
        tracing: makes the spans.
    """

    def __init__(
        self,
        upstream: Upstream,
        manager: AzureEntraIDManager,
        credentials: ProviderCredentials,
        config: ProxyConfiguration,
        *,
        tracing: Tracing,
    ) -> None:
        self._upstream = upstream
        self.manager = manager
        self.provider_credentials = credentials
        self._config = config
        self._answering = Answering(upstream.origin, config.idle_timeout)
        self._tracing = tracing
        self._cleaner = RequestCleaner(config.strip_headers)
        self._allowed = frozenset(name.lower() for name in config.provider_data) - {*OURS}
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
        attached = Attached(self._upstream.authorization, own)
        if route.is_inference:
            answer = await self._infer(request, route, headers, attached, tracked)
        else:
            answer = await self._pass(request, route, headers, own, tracked)
        try:
            answer = await without_credentials(
                answer,
                attached,
                self._config.idle_timeout,
                request_id,
                may_have_failed=route.name == "/v1/responses",
            )
            return await self._answering(request, answer, request_id, tracked)
        finally:
            await answer.close()

    def close(self) -> None:
        """Ask the stack nothing any more; before its connections are closed."""
        if self._calls is not None:
            self._calls.close()

    async def _infer(
        self,
        request: web.BaseRequest,
        route: Route,
        headers: Headers,
        attached: Attached,
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
            call_data=attached.callers,
            stream=data["stream"],
        )

        async def send() -> Answer:
            value = await Timed(call.header(), tracked.waited_for_token)
            if value is not None:
                headers[self._header] = value
                attached.attach(value)
            with tracked.elsewhere():
                answer = await self._send(request, route, headers, body)
                return await unless_refused(answer, headers, config.idle_timeout)

        try:
            return await call.sent_by(send, held_answer)
        except Refused as refused:
            rejected: Answer = refused.answer
            return rejected

    async def _send(
        self,
        request: web.BaseRequest,
        route: Route,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Answer:
        """Send a request once, as a span of its own."""
        upstream = self._upstream
        with self._tracing.calling(
            request.method, route.name, upstream.host, upstream.port
        ) as span:
            span.inject(headers)
            answer = await upstream.send(request.method, request.raw_path, headers, body)
            span.answered(answer.status)
            return answer

    async def _pass(
        self,
        request: web.BaseRequest,
        route: Route,
        headers: Headers,
        own: list[str],
        tracked: Tracked,
    ) -> Answer:
        """Send any other request; its body is passed on as it comes."""
        if own:
            await self._known()
            headers[self._header] = await Call(parse(own[0])).header() or "{}"
        body: AsyncIterator[bytes] | None = None
        if request.can_read_body:
            config = self._config
            length = request.content_length
            if length is not None:
                if length > config.upload_limit:
                    raise too_large(config.upload_limit, "upload_limit")
                headers["Content-Length"] = str(length)
            body = upload(request.content, config.upload_limit, config.idle_timeout)
        with tracked.elsewhere():
            return await self._send(request, route, headers, body)

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
                lambda: self.manager,
                StackCatalog(
                    functools.partial(ask, self._upstream.require_json),
                    learned=functools.partial(learned, self, generation),
                ),
                key_per_provider=generation.key_per_provider,
                provider_credentials=lambda: self.provider_credentials,
            )
        return self._calls
