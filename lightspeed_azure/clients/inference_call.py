"""One request to the stack, and what provider data it carries each time it is sent."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from lightspeed_azure.clients.held_stream import HeldStream
from lightspeed_azure.clients.refusal import is_azure_refusal
from lightspeed_azure.clients.stack_catalog import StackCatalog
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.identity import Identity
from lightspeed_azure.manager import AzureEntraIDManager
from lightspeed_azure.provider_data import encode, merge, parse
from lightspeed_azure.token_cache.cache import Token

INFERENCE_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
)
"""The calls that reach a model (llama_stack_api 0.7, ogx_api 1.x); nothing else gets a token."""

STREAM_MIN_REMAINING = 60.0
"""Seconds of life that a token should have left when a stream starts with it."""

_OURS = ("azure_api_key", "azure_api_base")


class Call:
    """A request that carries no token: the caller's own provider data only."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    async def header(self) -> str | None:
        """Return the provider-data header's value as of now; None for no header."""
        return encode(self.data) if self.data else None

    async def sent_by[Answer](self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send the request; `send` asks for `header()` each time."""
        return await send()


class AzureCall(Call):
    """An inference request for a `remote::azure` model: it carries the token of the moment."""

    def __init__(
        self, data: Mapping[str, Any], identity: Identity, base_url: str, min_remaining: float
    ) -> None:
        super().__init__(data)
        self._identity = identity
        self._base_url = base_url
        self._min_remaining = min_remaining
        self._sent: Token | None = None
        self._repeated = False

    async def header(self) -> str:
        """Return the header's value with a valid token; waits only where none is at hand.

        Raises:
            TokenError: no token can be had; the request must not be sent.
        """
        token, value = await self._identity.aheader(
            self._base_url, min_remaining=self._min_remaining
        )
        self._sent = token
        return encode(merge((self.data, parse(value)))) if self.data else value

    async def sent_by[Answer](self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send the request; where Azure refuses the token, once more with a new one.

        Raises:
            TokenError: no token can be had.
            Exception: what the stack's client raises.
        """
        try:
            return await send()
        except Exception as error:
            if self._sent is None or not is_azure_refusal(error):
                raise
        self.refused()
        self._repeated = True
        return await send()

    def refused(self) -> None:
        """Drop the token that was sent, so that the next one is new; all who were refused share it."""
        if self._sent is not None:
            self._identity.cache.invalidate(self._sent.secret)


class ToolCall(AzureCall):
    """A plain `/v1/responses` whose tools the stack calls itself: nobody sees whether it has yet.

    So it is never repeated: a refusal drops the token, and the caller gets the stack's own error.
    """

    async def sent_by[Answer](self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send the request once."""
        try:
            return await send()
        except Exception as error:
            if is_azure_refusal(error):
                self.refused()
            raise


class StreamedResponseCall(AzureCall):
    """A streamed `/v1/responses`: its refusal comes inside the stream."""

    async def sent_by[Answer](self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send the request; its opening events are held back until a refusal can be ruled out."""
        answer: Any = await super().sent_by(send)
        if hasattr(answer, "__anext__"):  # and not the raw response that the caller asked for
            answer = HeldStream(answer, self.refused, send, may_repeat=not self._repeated)
        return answer  # type: ignore[no-any-return]  # it stands in for the client's stream


class Calls:
    """Tells which call a request is. One for each client holder.

    Args:
        manager: returns the manager whose identities sign in.
        catalog: knows which provider serves a model.
        stream_min_remaining: seconds of life that a token should have left when a stream starts.
    """

    def __init__(
        self,
        manager: Callable[[], AzureEntraIDManager],
        catalog: StackCatalog,
        stream_min_remaining: float = STREAM_MIN_REMAINING,
    ) -> None:
        self._manager = manager
        self._catalog = catalog
        self._stream_min_remaining = stream_min_remaining

    async def of(
        self,
        method: str,
        path: str,
        body: object,
        *,
        default_data: Mapping[str, Any],
        call_data: Iterable[str],
        stream: bool,
    ) -> Call:
        """Return the call that a request makes.

        Args:
            method: the HTTP method.
            path: the path below the stack's URL.
            body: the JSON body, where there is one.
            default_data: the client's own provider data.
            call_data: the provider data given for this one request.
            stream: whether the answer is streamed.

        Raises:
            ProviderDataError: `call_data` is not a JSON object.
            InvalidConfigurationError: the model's provider has no base_url.
        """
        own = merge(parse(value) for value in call_data)
        manager = self._manager()
        if not manager.is_entra_id_configured:
            return Call(merge((default_data, own)))
        data = merge((_without_ours(default_data), own))
        model = _model(method, path, body)
        if model is None:
            return Call(data)
        provider = await self._catalog.provider_of(model)
        if provider is None:
            return Call(data)
        identity = manager.find_identity(provider.provider_id)
        if identity is None:
            return Call(data)
        base_url = provider.base_url or manager.azure_base_url
        if base_url is None:
            raise InvalidConfigurationError(
                f"Provider {provider.provider_id!r} has no base_url; the stack takes no token "
                "without one: add config.base_url to the provider"
            )
        if not stream:
            once = _ends_in(path, ("/v1/responses",)) and _has_tools_of_the_stack(body)
            return (ToolCall if once else AzureCall)(data, identity, base_url, 0.0)
        kind = StreamedResponseCall if _ends_in(path, ("/v1/responses",)) else AzureCall
        return kind(data, identity, base_url, self._stream_min_remaining)


def _without_ours(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in defaults.items() if field not in _OURS}


def _model(method: str, path: str, body: object) -> str | None:
    if method.upper() != "POST" or not _ends_in(path, INFERENCE_PATHS):
        return None
    model = body.get("model") if isinstance(body, Mapping) else None
    return model if isinstance(model, str) else None


def _has_tools_of_the_stack(body: object) -> bool:
    tools = body.get("tools") if isinstance(body, Mapping) else None
    if not isinstance(tools, list | tuple):
        return bool(tools)
    return any(not (isinstance(tool, Mapping) and tool.get("type") == "function") for tool in tools)


def _ends_in(path: str, ends: tuple[str, ...]) -> bool:
    return f"/{path.partition('?')[0].strip('/')}".endswith(ends)
