"""One request to the stack, and what provider data it carries each time it is sent."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightspeed_azure.clients.held_stream import Hold, Send, held
from lightspeed_azure.clients.refusal import is_azure_refusal
from lightspeed_azure.clients.stack_catalog import Ask, StackCatalog
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.identity import Identity
from lightspeed_azure.manager import AzureEntraIDManager
from lightspeed_azure.provider_data import HeaderValue, encode, merge, parse, provider_keys, without
from lightspeed_azure.token_cache.cache import Token

INFERENCE_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1alpha/interactions",
)
"""The calls that reach a model (llama_stack_api 0.7, ogx_api 1.x); nothing else gets a token."""

STREAM_MIN_REMAINING = 60.0
"""Seconds of life that a token should have left when a stream starts with it."""

_OURS = ("azure_api_key", "azure_api_base")

type MakeCalls = Callable[[Ask], "Calls"]
"""Given a way to ask the stack what it serves, return what decides about its requests."""


class Call:
    """A request that carries no token: the caller's own provider data only."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    async def header(self) -> str | None:
        """Return the provider-data header's value as of now; None for no header."""
        return encode(self.data) if self.data else None

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; `send` asks for `header()` each time."""
        del hold  # nothing is repeated
        return await send()


class AzureCall(Call):
    """An inference request for a `remote::azure` model: it carries the token of the moment."""

    def __init__(
        self,
        data: Mapping[str, Any],
        identity: Identity,
        base_url: str,
        *,
        min_remaining: float,
        keys: Mapping[str, Identity],
    ) -> None:
        super().__init__(data)
        self._identity = identity
        self._base_url = base_url
        self._min_remaining = min_remaining
        self._keys = keys
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
        if not self.data and not self._keys:
            return value
        at_hand = {name: identity.cache.peek() for name, identity in self._keys.items()}
        keys = provider_keys({name: each.secret for name, each in at_hand.items() if each})
        return encode(merge((keys, self.data, parse(value))))

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; where Azure refuses the token, once more with a new one.

        Raises:
            TokenError: no token can be had.
            Exception: what the stack's client raises.
        """
        del hold  # a refusal comes before the stream
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

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request once."""
        del hold
        try:
            return await send()
        except Exception as error:
            if is_azure_refusal(error):
                self.refused()
            raise


class StreamedResponseCall(AzureCall):
    """A streamed `/v1/responses`: its refusal comes inside the stream."""

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; its opening events are held back until a refusal can be ruled out."""
        answer = await super().sent_by(send)
        held_back: Answer = hold(answer, self.refused, send, may_repeat=not self._repeated)
        return held_back


class Calls:
    """Tells which call a request is. One for each client holder.

    Args:
        manager: returns the manager whose identities sign in.
        catalog: knows which provider serves a model.
        stream_min_remaining: seconds of life that a token should have left when a stream starts.
        key_per_provider: the stack reads `{provider_id}_api_key`; a response, which may ask other
            models too, then carries the tokens at hand of all Azure providers.
    """

    def __init__(
        self,
        manager: Callable[[], AzureEntraIDManager],
        catalog: StackCatalog,
        *,
        stream_min_remaining: float = STREAM_MIN_REMAINING,
        key_per_provider: bool = False,
    ) -> None:
        self._manager = manager
        self._catalog = catalog
        self._key_per_provider = key_per_provider
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
        data = merge((without(default_data, _OURS), own))
        model = _model(method, path, body)
        if model is None:
            return Call(data)
        provider = await self._catalog.provider_of(model)
        if provider is None or not provider.is_azure:
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
        is_response = _ends_in(path, ("/v1/responses",))
        kind: type[AzureCall] = AzureCall
        if is_response and stream:
            kind = StreamedResponseCall
        elif is_response and _has_tools_of_the_stack(body):
            kind = ToolCall
        return kind(
            without(data, (f"{provider.provider_id}_api_key", *_OURS)),
            identity,
            base_url,
            min_remaining=self._stream_min_remaining if stream else 0.0,
            keys=await self._keys(manager) if is_response else {},
        )

    def tokens(self) -> list[str]:
        """Return the tokens at hand, to look for where none may be."""
        latest = (identity.cache.latest() for identity in self._manager().identities)
        return [HeaderValue(token.secret.get_secret_value()) for token in latest if token]

    async def _keys(self, manager: AzureEntraIDManager) -> dict[str, Identity]:
        """Return each Azure provider's identity where the stack tells them apart, and they differ."""
        if not self._key_per_provider or len(manager.identities) < 2:
            return {}
        names = [each.provider_id for each in await self._catalog.azure_providers()]
        found = {name: manager.find_identity(name) for name in names}
        return {name: identity for name, identity in found.items() if identity is not None}


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
