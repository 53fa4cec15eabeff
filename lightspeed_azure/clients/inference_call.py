"""Which call a request is: whose provider data it carries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightspeed_azure.clients.call import AzureCall, Call, KeyedCall
from lightspeed_azure.clients.stack_catalog import Ask, Provider, StackCatalog
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials, ProviderKeys
from lightspeed_azure.provider_data import merge, parse, without
from lightspeed_azure.secrets import RedactedStr
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.manager import AzureEntraIDManager

__all__ = [
    "INFERENCE_PATHS",
    "STREAM_MIN_REMAINING",
    "AzureCall",
    "Call",
    "Calls",
    "KeyedCall",
    "MakeCalls",
    "asks_a_model",
    "tokens_at_hand",
]

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

_INFERENCE = frozenset(INFERENCE_PATHS)

STREAM_MIN_REMAINING = 60.0
"""Seconds of life that a token should have left when a stream starts with it."""

_OURS = ("azure_api_key", "azure_api_base")

type MakeCalls = Callable[[Ask], "Calls"]
"""Given a way to ask the stack what it serves, return what decides about its requests."""


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
        provider_credentials: Callable[[], ProviderCredentials] = ProviderCredentials,
    ) -> None:
        self._manager = manager
        self._catalog = catalog
        self._key_per_provider = key_per_provider
        self._stream_min_remaining = stream_min_remaining
        self._credentials = provider_credentials

    async def of(
        self,
        method: str,
        path: str,
        body: object,
        *,
        default_data: Mapping[str, Any],
        call_data: Sequence[str],
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
            InvalidConfigurationError: the model's provider has no base_url, or does not read a
                field that is configured for it.
        """
        manager, credentials = self._manager(), self._credentials()
        ours = _OURS if manager.is_entra_id_configured else ()
        data = merge((without(default_data, ours), *map(parse, call_data)))
        model = _model(method, path, body) if ours or credentials else None
        provider = None if model is None else await self._catalog.provider_of(model)
        if provider is None:
            return Call(data)
        is_response = _ends_in(path, ("/v1/responses",))
        has_tools = is_response and _has_tools_of_the_stack(body)
        identity = manager.find_identity(provider.provider_id) if provider.is_azure else None
        keys = self._keys_of(credentials, provider) if credentials else None
        if keys is not None and keys.replace(identity):
            return KeyedCall(data, keys, once=has_tools, streamed=is_response and stream)
        if identity is None:
            return Call(data)
        base_url = provider.base_url or manager.azure_base_url
        if base_url is None:
            raise InvalidConfigurationError(
                f"Provider {provider.provider_id!r} has no base_url; the stack takes no token "
                "without one: add config.base_url to the provider"
            )
        return AzureCall(
            without(data, (f"{provider.provider_id}_api_key", *_OURS)),
            identity,
            base_url,
            min_remaining=self._stream_min_remaining if stream else 0.0,
            keys=await self._keys(manager) if is_response else {},
            once=has_tools,
            streamed=is_response and stream,
        )

    def tokens(self) -> list[str]:
        """Return the tokens and keys at hand, to look for where none may be."""
        return tokens_at_hand(self._manager(), self._credentials())

    def close(self) -> None:
        """Ask the stack nothing any more that no request waits for."""
        self._catalog.close()

    def _keys_of(self, credentials: ProviderCredentials, provider: Provider) -> ProviderKeys | None:
        """Return what is configured for a provider beside the identities."""
        family = "ogx" if self._key_per_provider else "llama-stack"
        return credentials.keys(
            provider.provider_id, provider.provider_type, provider.base_url, family
        )

    async def _keys(self, manager: AzureEntraIDManager) -> dict[str, Identity]:
        """Return each Azure provider's identity where the stack tells them apart, and they differ."""
        if not self._key_per_provider or len(manager.identities) < 2:
            return {}
        names = [each.provider_id for each in await self._catalog.azure_providers()]
        found = {name: manager.find_identity(name) for name in names}
        return {name: identity for name, identity in found.items() if identity is not None}


def tokens_at_hand(manager: AzureEntraIDManager, credentials: ProviderCredentials) -> list[str]:
    """Return the tokens and keys that requests may carry now."""
    latest = (identity.cache.latest() for identity in manager.identities)
    tokens = [RedactedStr(token.secret.get_secret_value()) for token in latest if token]
    return tokens + credentials.secrets()


def asks_a_model(method: str, path: str) -> bool:
    """Return whether a request reaches a model.

    Args:
        method: the HTTP method, in any letter case.
        path: the path below the stack's URL, or with what stands before it; a query may follow.
    """
    return method.upper() == "POST" and _ends_in(path, INFERENCE_PATHS)


def _model(method: str, path: str, body: object) -> str | None:
    if not asks_a_model(method, path):
        return None
    model = body.get("model") if isinstance(body, Mapping) else None
    return model if isinstance(model, str) else None


def _has_tools_of_the_stack(body: object) -> bool:
    tools = body.get("tools") if isinstance(body, Mapping) else None
    if not isinstance(tools, list | tuple):
        return bool(tools)
    return any(not (isinstance(tool, Mapping) and tool.get("type") == "function") for tool in tools)


def _ends_in(path: str, ends: tuple[str, ...]) -> bool:
    if path in _INFERENCE:  # as it most often is, to the letter
        return path in ends
    return f"/{path.partition('?')[0].strip('/')}".endswith(ends)
