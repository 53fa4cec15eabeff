"""Which model of a stack is served by which provider, as the stack itself says."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lightspeed_azure.errors import StackUnavailableError

_logger = logging.getLogger(__name__)

AZURE_PROVIDER_TYPE = "remote::azure"

ASK_AGAIN_AFTER = 1.0
"""Seconds between two questions to the stack about a model that it did not know."""

BELIEVED_FOR = 60.0
"""Seconds after which the stack is asked again: a model may have moved to another provider."""

ASK_AHEAD = 30.0
"""Seconds before that from which a request has the stack asked behind it, and does not wait."""

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
        self._monotonic = monotonic
        self._listing: Listing | None = None
        self._asked_at = self._believed_until = 0.0
        self._lock = asyncio.Lock()
        self._asking: asyncio.Task[Listing] | None = None
        self._failure: Exception | None = None

    async def provider_of(self, model: str) -> Provider | None:
        """Return the provider that serves a model; None when the stack names none.

        Raises:
            StackUnavailableError: the stack does not answer, or not in time.
            Exception: the client's own error, when the stack refuses to say.
        """
        listing = self._listing
        if listing is None or self._believed_until - self._monotonic() <= ASK_AHEAD:
            listing = await self._believed()
        known, provider_id = _provider_id(listing, model)
        if not known:
            listing = await self._refreshed(listing)
            _, provider_id = _provider_id(listing, model)
        return None if provider_id is None else listing.providers.get(provider_id)

    async def azure_providers(self) -> tuple[Provider, ...]:
        """Return the stack's Azure providers, in the order of its configuration."""
        listing = await self._believed()
        return listing.azure_providers

    async def _believed(self) -> Listing:
        """Return what the stack said lately."""
        listing = self._listing
        if listing is None:
            return await self._refreshed(None)
        left = self._believed_until - self._monotonic()
        if left <= 0:
            return await self._asked_anew(listing)
        if left <= ASK_AHEAD and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._asked_anew(listing))
        return listing

    async def _asked_anew(self, listing: Listing) -> Listing:
        """Return what the stack says now; the listing given while it does not answer."""
        try:
            return await self._refreshed(listing)
        except Exception:  # noqa: BLE001 - the request itself tells what is wrong with the stack
            self._believed_until = self._monotonic() + BELIEVED_FOR
            return listing

    async def _refreshed(self, seen: Listing | None) -> Listing:
        failure = self._failure
        async with self._lock:
            current = self._listing
            if current is not None and (
                current is not seen or self._monotonic() - self._asked_at < ASK_AGAIN_AFTER
            ):
                return current
            if self._failure is not None and self._failure is not failure:
                raise self._failure.with_traceback(
                    None
                )  # while this one waited: the limit is for all together
            try:
                async with asyncio.timeout(ANSWER_LIMIT):
                    listing = await self._ask()
            except TimeoutError:
                self._failure = StackUnavailableError(
                    f"The stack did not say within {ANSWER_LIMIT:.0f} s which models it serves"
                )
                raise self._failure from None
            except Exception as error:
                self._failure = error.with_traceback(None)
                raise
            self._learned(listing)
            self._listing, self._asked_at = listing, self._monotonic()
            self._believed_until = self._asked_at + BELIEVED_FOR
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
