"""The one place where an HTTP request of anything gets the token: below every client's redirects.

httpx follows redirects above its transports, and copies the headers of the hop before. So each hop
is seen here, what is put on is put on a copy, and the caller's own request never has it.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import httpx

from lightspeed_azure.clients.answer import Refused, held_response, unless_refused
from lightspeed_azure.clients.closing_errors import ClosingErrors
from lightspeed_azure.clients.generations import GENERATIONS, Generation, of_version
from lightspeed_azure.clients.inference_call import (
    STREAM_MIN_REMAINING,
    Call,
    Calls,
    asks_a_model,
    tokens_at_hand,
)
from lightspeed_azure.clients.learned import learned
from lightspeed_azure.clients.listing import ask
from lightspeed_azure.clients.ogx_body import check_body
from lightspeed_azure.clients.pinned_transport import Home, PinnedTransport, pinned_transport
from lightspeed_azure.clients.sendable import check_sendable
from lightspeed_azure.clients.stack_catalog import ANSWER_LIMIT, StackCatalog
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import StackUnavailableError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.provider_data import is_provider_data, strip
from lightspeed_azure.secrets import RedactedStr
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.request_body import (
    BODY_LIMIT,
    in_memory,
    parsed,
    read_into_memory,
)

LEFT = "lightspeed_azure.left"
"""Extension of a request that was elsewhere: it gets nothing any more, wherever it goes."""

DEFAULT_DATA = "lightspeed_azure.default_data"
"""Extension of a request: the provider data that its client sends by default."""

_OUT_OF_THE_BODY = "; pass headers as headers of the request"

_authorization: ContextVar[str | None] = ContextVar("lightspeed_azure_authorization", default=None)


class _Unwilling(Exception):  # noqa: N818 - an answer
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class TokenCarrier(httpx.AsyncBaseTransport):
    """Sends requests to one stack, with the token of the moment where it belongs.

    Belongs to one event loop. Asks the stack nothing before the first inference request.

    Args:
        config: where the stack is.
        manager: returns the manager whose tokens are carried.
        inner: what sends; by default connections of its own.
        stream_min_remaining: seconds of life that a token should have left when a stream starts.
        body_limit: bytes of a streamed body that are read into memory.
        provider_credentials: returns the keys of other providers.
    """

    def __init__(
        self,
        config: LlamaStackConfiguration,
        manager: Callable[[], AzureEntraIDManager],
        *,
        inner: httpx.AsyncBaseTransport | None = None,
        stream_min_remaining: float = STREAM_MIN_REMAINING,
        body_limit: int = BODY_LIMIT,
        provider_credentials: Callable[[], ProviderCredentials] = ProviderCredentials,
    ) -> None:
        url = httpx.URL(config.url or "")
        self._url = str(url).rstrip("/")
        self._home = Home(url)
        self._manager = manager
        self._credentials = provider_credentials
        self._key = config.api_key
        self._stream_min_remaining = stream_min_remaining
        self._body_limit = body_limit
        pinned = PinnedTransport(url, inner) if inner else pinned_transport(url, config.ca_bundle)
        self._inner = ClosingErrors(pinned)
        self._asking = httpx.AsyncClient(
            transport=self._inner, timeout=ANSWER_LIMIT, follow_redirects=True
        )
        self._generation = next(
            (each for each in GENERATIONS if each.family == config.family), None
        )
        self._calls: Calls | None = None
        self._finding: asyncio.Task[Generation] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop of a request; once more where Azure refused the token.

        Raises:
            LightspeedAzureError: what the clients of the stack raise; nothing was sent then.
            httpx.TransportError: the stack did not answer.
        """
        if LEFT in request.extensions or not self._home.holds(request.url):
            request.extensions = {**request.extensions, LEFT: True}
            strip(request.headers)
            return await self._inner.handle_async_request(request)
        call = await self.call_of(request)

        async def send() -> httpx.Response:
            sent = await self._with_header(request, call)
            return await unless_refused(await self._inner.handle_async_request(sent))

        try:
            return await call.sent_by(send, held_response)
        except Refused as refused:
            answer: httpx.Response = refused.answer
            return answer

    async def call_of(self, request: httpx.Request) -> Call:
        """Return the call that a request to the stack makes.

        Raises:
            LightspeedAzureError: it cannot be sent.
        """
        values = [
            RedactedStr(value)
            for name, value in request.headers.multi_items()
            if is_provider_data(name)
        ]
        check_sendable(request.method, request.headers)
        default: Mapping[str, Any] = request.extensions.get(DEFAULT_DATA, {})
        content = in_memory(request)
        is_inference = asks_a_model(request.method, request.url.path)
        if is_inference and content is None:
            content = await read_into_memory(request, self._body_limit)
        is_json = is_inference or "json" in request.headers.get("content-type", "")
        body = parsed(content) if content and is_json else None
        if body is not None:
            check_body(body, tokens_at_hand(self._manager(), self._credentials()), _OUT_OF_THE_BODY)
        if not (values or default or is_inference):
            return Call({})
        before = _authorization.set(request.headers.get("authorization"))
        try:
            generation = await self._family()
            return await self._deciding(generation).of(
                request.method,
                request.url.path,
                body,
                default_data=default,
                call_data=values,
                stream=isinstance(body, dict) and bool(body.get("stream")),
            )
        finally:
            _authorization.reset(before)

    @property
    def manager(self) -> AzureEntraIDManager:
        """The manager whose tokens the requests carry."""
        return self._manager()

    @property
    def provider_credentials(self) -> ProviderCredentials:
        """The keys of other providers."""
        return self._credentials()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._calls is not None:
            self._calls.close()
        await self._asking.aclose()

    async def _with_header(self, request: httpx.Request, call: Call) -> httpx.Request:
        """Return a copy of the request with what the call carries at this moment."""
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        if in_memory(sent) is not None:
            sent.read()  # a transport below may look at the content
        strip(sent.headers)
        value = await call.header()
        if value is not None:
            sent.headers[(await self._family()).header] = value
        if self._key is not None and "authorization" not in sent.headers:
            sent.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return sent

    def _deciding(self, generation: Generation) -> Calls:
        if self._calls is None:
            self._calls = Calls(
                self._manager,
                StackCatalog(
                    functools.partial(ask, self._get),
                    learned=functools.partial(learned, self, generation),
                ),
                stream_min_remaining=self._stream_min_remaining,
                key_per_provider=generation.key_per_provider,
                provider_credentials=self._credentials,
            )
        return self._calls

    async def _family(self) -> Generation:
        """Return the stack's generation; it is asked once, by the first, for all who wait."""
        if self._generation is None:
            if self._finding is None or self._finding.done():
                self._finding = asyncio.create_task(self._found())
                self._finding.add_done_callback(self._forget)
            self._generation = await asyncio.shield(self._finding)
        return self._generation

    def _forget(self, finding: asyncio.Task[Generation]) -> None:
        """Let go of a task, which has the context of the request that began it."""
        if self._finding is finding:
            self._finding = None

    async def _found(self) -> Generation:
        try:
            return of_version(await self._get("/v1/version"))
        except _Unwilling as error:
            said = f"answered {error.status_code}"
        except httpx.HTTPError as error:
            said = f"gave no answer ({type(error).__name__})"
        except (ValueError, LookupError, TypeError):
            said = "gave no version"
        raise StackUnavailableError(
            f"The stack {said} when asked for its version, so nobody can tell which header it reads;"
            " check its URL, and that it runs, or say which family it is: llama-stack or ogx"
        )

    async def _get(self, path: str) -> Any:
        """Return what the stack answers to a path; asked without a token."""
        authorization = _authorization.get()
        if self._key is not None:
            authorization = f"Bearer {self._key.get_secret_value()}"
        headers = {"Authorization": authorization} if authorization else {}
        del authorization  # a traceback with local variables would show it
        answer = await self._asking.get(f"{self._url}{path}", headers=headers)
        if answer.status_code != 200:
            raise _Unwilling(answer.status_code)
        return answer.json()
