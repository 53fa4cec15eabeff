"""Which model of a stack is served by which provider, as the stack itself says."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lightspeed_azure.concurrency.last_good import LastGood
from lightspeed_azure.errors import StackUnavailableError

_logger = logging.getLogger(__name__)

AZURE_PROVIDER_TYPE = "remote::azure"

ASK_AGAIN_AFTER = 1.0
"""Seconds between two questions to the stack about models that it does not know."""

BELIEVED_FOR = 60.0
"""Seconds for which the stack's answer is used: a model may move to another provider."""

ASK_AHEAD = 30.0
"""A request asks the stack in the background when less than this many of these seconds remain."""

ANSWER_LIMIT = 10.0
"""Seconds that the stack may take to say what it serves."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of the stack.

    Attributes:
        provider_id: its name in the stack's configuration.
        provider_type: such as `remote::azure`.
        base_url: where its requests go; None where the configuration does not say.
    """

    provider_id: str
    provider_type: str
    base_url: str | None

    @property
    def is_azure(self) -> bool:
        """Whether it takes an Entra ID token."""
        return self.provider_type == AZURE_PROVIDER_TYPE


@dataclass(frozen=True, slots=True)
class Listing:
    """What a stack says of itself.

    Attributes:
        models: model identifier → provider_id.
        providers: provider_id → provider, of every kind, in order.
    """

    models: Mapping[str, str]
    providers: Mapping[str, Provider]

    @property
    def azure_providers(self) -> tuple[Provider, ...]:
        """The `remote::azure` providers, in order."""
        return tuple(each for each in self.providers.values() if each.is_azure)


type Ask = Callable[[], Awaitable[Listing]]
"""Asks a stack what it says of itself, without credentials."""


class StackCatalog:
    """Remembers what the stack says; asks again when a model is unknown.

    The stack is asked without credentials: with a token attached it would ask Azure in turn. Use
    it from one event loop, that of the client.

    Args:
        ask: asks the stack.
        learned: is told each answer.
        monotonic: gives seconds.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        learned: Callable[[Listing], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._learned = learned
        self._listing = LastGood(
            self._asked,
            monotonic=monotonic,
            refresh_after=BELIEVED_FOR - ASK_AHEAD,
            expire_after=BELIEVED_FOR,
            retry_after=ANSWER_LIMIT,
        )

    async def provider_of(self, model: str) -> Provider | None:
        """Return the provider that serves a model; None when the stack names none.

        Raises:
            StackUnavailableError: the stack does not answer, or not in time.
            Exception: the client's own error, when the stack refuses to say.
        """
        listing = await self._listing.get()
        known, provider_id = _provider_id(listing, model)
        if not known:
            listing = await self._listing.renew(cooldown=ASK_AGAIN_AFTER)
            _, provider_id = _provider_id(listing, model)
        return None if provider_id is None else listing.providers.get(provider_id)

    def close(self) -> None:
        """Cancel a request to the stack that has no waiters."""
        self._listing.close()

    async def azure_providers(self) -> tuple[Provider, ...]:
        """Return the stack's Azure providers, in the order of its configuration."""
        return (await self._listing.get()).azure_providers

    async def _asked(self) -> Listing:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                listing = await self._ask()
        except TimeoutError:
            raise StackUnavailableError(
                f"The stack did not say within {ANSWER_LIMIT:.0f} s which models it serves"
            ) from None
        self._learned(listing)
        _logger.debug(
            "The stack serves Azure through %s",
            [each.provider_id for each in listing.azure_providers],
        )
        return listing


def _provider_id(listing: Listing, model: str) -> tuple[bool, str | None]:
    """Return whether the stack knows the model, and its provider.

    An unregistered model also works as `<provider_id>/<deployment>`; the longest match counts, as
    an identifier may hold a slash itself.
    """
    if model in listing.models:
        return True, listing.models[model]
    prefixes = [name for name in listing.providers if model.startswith(f"{name}/")]
    return (True, max(prefixes, key=len)) if prefixes else (False, None)
