"""Which model of a stack is served by which `remote::azure` provider, as the stack itself says."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

_logger = logging.getLogger(__name__)

AZURE_PROVIDER_TYPE = "remote::azure"

ASK_AGAIN_AFTER = 5.0
"""Seconds between two questions to the stack about a model that it did not know."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a stack says of itself.

    Attributes:
        models: model identifier → provider_id.
        azure_providers: provider_id → base_url (None where the configuration has none), in order.
    """

    models: Mapping[str, str]
    azure_providers: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class AzureProvider:
    """A `remote::azure` provider of the stack."""

    provider_id: str
    base_url: str | None


type Ask = Callable[[], Awaitable[Listing]]
"""Asks a stack what it says of itself, without credentials."""


class StackCatalog:
    """Remembers what the stack says; asks again when a model is unknown.

    The stack is asked without credentials: with a token attached it would ask Azure in turn. Use
    it from one event loop, that of the client.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._listing: Listing | None = None
        self._asked_at = 0.0
        self._lock = asyncio.Lock()

    async def provider_of(self, model: str) -> AzureProvider | None:
        """Return the Azure provider that serves a model; None when another one does.

        Raises:
            Exception: what the client raises when the stack does not answer.
        """
        listing = self._listing or await self._refreshed(None)
        known, provider_id = _provider_id(listing, model)
        if not known:
            listing = await self._refreshed(listing)
            _, provider_id = _provider_id(listing, model)
        if provider_id is None or provider_id not in listing.azure_providers:
            return None
        return AzureProvider(provider_id, listing.azure_providers[provider_id])

    async def azure_providers(self) -> tuple[AzureProvider, ...]:
        """Return the stack's Azure providers, in the order of its configuration."""
        listing = self._listing or await self._refreshed(None)
        return tuple(AzureProvider(name, url) for name, url in listing.azure_providers.items())

    async def _refreshed(self, seen: Listing | None) -> Listing:
        async with self._lock:
            current = self._listing
            if current is not None and (
                current is not seen or self._monotonic() - self._asked_at < ASK_AGAIN_AFTER
            ):
                return current
            listing = await self._ask()
            self._listing, self._asked_at = listing, self._monotonic()
            _logger.debug("The stack serves Azure through %s", list(listing.azure_providers))
            return listing


def _provider_id(listing: Listing, model: str) -> tuple[bool, str | None]:
    """Return whether the stack knows the model, and its provider.

    An unregistered model also works as `<provider_id>/<deployment>`; the longest match counts, as
    an identifier may hold a slash itself.
    """
    if model in listing.models:
        return True, listing.models[model]
    prefixes = [name for name in listing.azure_providers if model.startswith(f"{name}/")]
    return (True, max(prefixes, key=len)) if prefixes else (False, None)
