"""Azure Entra ID tokens, always fresh, on every Llama Stack inference request.

One request through the house::

    endpoint          client: ClientDep                                   fastapi.py
                      client.chat.completions.create(model="azure/gpt-4o-mini", …)
      client.request()  is this an inference call for a remote::azure model?
                                                    clients/
                        identity.aheader()                                tokens/identity.py
                          cache.aget()                                    tokens/cache.py
                            fresh  → the token, at once
                            stale  → the token, at once; one renewal runs behind
                            expired→ join the one renewal under way, for at most `deadline` s
                              source(attempt)                             tokens/entra.py → azure-identity
                        {azure_api_key, azure_api_base} as one header     provider_data.py
                        sent to the configured origin only                clients/pinned_transport.py
      Llama Stack or OGX → Azure OpenAI, Authorization: Bearer <token>
      401?            cache.invalidate(that token); one renewal; once more, if nothing was streamed yet
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightspeed_azure.clients.holder import AsyncLlamaStackClientHolder, AsyncOgxClientHolder
    from lightspeed_azure.config import (
        AzureEntraIdConfiguration,
        Configuration,
        LlamaStackConfiguration,
        load_configuration,
    )
    from lightspeed_azure.enrichment import enrich_azure_entra_id_inference, generate_configuration
    from lightspeed_azure.errors import (
        CredentialRejectedError,
        CredentialResolutionError,
        InvalidConfigurationError,
        KeyUnavailableError,
        LightspeedAzureError,
        ProviderDataError,
        ResolverUnavailableError,
        StackUnavailableError,
        TokenError,
        TokenUnavailableError,
    )
    from lightspeed_azure.keys import extensible, get_api_key, resolve_credential
    from lightspeed_azure.tokens.manager import AzureEntraIDManager
    from lightspeed_azure.transports.sync_holder import LlamaStackClientHolder, OgxClientHolder

__all__ = [
    "AsyncLlamaStackClientHolder",
    "AsyncOgxClientHolder",
    "AzureEntraIDManager",
    "AzureEntraIdConfiguration",
    "Configuration",
    "CredentialRejectedError",
    "CredentialResolutionError",
    "InvalidConfigurationError",
    "KeyUnavailableError",
    "LightspeedAzureError",
    "LlamaStackClientHolder",
    "LlamaStackConfiguration",
    "OgxClientHolder",
    "ProviderDataError",
    "ResolverUnavailableError",
    "StackUnavailableError",
    "TokenError",
    "TokenUnavailableError",
    "enrich_azure_entra_id_inference",
    "extensible",
    "generate_configuration",
    "get_api_key",
    "load_configuration",
    "resolve_credential",
]

_HOMES = {
    "clients.holder": ("AsyncLlamaStackClientHolder", "AsyncOgxClientHolder"),
    "config": (
        "AzureEntraIdConfiguration",
        "Configuration",
        "LlamaStackConfiguration",
        "load_configuration",
    ),
    "enrichment": ("enrich_azure_entra_id_inference", "generate_configuration"),
    "errors": (
        "CredentialRejectedError",
        "CredentialResolutionError",
        "InvalidConfigurationError",
        "KeyUnavailableError",
        "LightspeedAzureError",
        "ProviderDataError",
        "ResolverUnavailableError",
        "StackUnavailableError",
        "TokenError",
        "TokenUnavailableError",
    ),
    "tokens.manager": ("AzureEntraIDManager",),
    "keys": ("extensible", "get_api_key", "resolve_credential"),
    "transports.sync_holder": ("LlamaStackClientHolder", "OgxClientHolder"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562), so that the command starts fast."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only here

    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
