"""Which model of a stack is served by which provider, as the stack itself says."""

import asyncio
import contextlib
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
"""Seconds for which the stack's answer counts: a model may move to another provider."""

ASK_AHEAD = 30.0
"""Seconds before their end from which a request has the stack asked behind it, and does not wait."""

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
        self._asking: asyncio.Task[None] | None = None
        self._ask_ahead_from = 0.0
        self._failure: Exception | None = None

    async def provider_of(self, model: str) -> Provider | None:
        """Return the provider that serves a model; None when the stack names none.

        Raises:
            StackUnavailableError: the stack does not answer, or not in time.
            Exception: the client's own error, when the stack refuses to say.
        """
        listing = self._listing
        if listing is None or self._monotonic() >= self._ask_ahead_from:
            listing = await self._believed()
        known, provider_id = _provider_id(listing, model)
        if not known:
            listing = await self._refreshed(listing)
            _, provider_id = _provider_id(listing, model)
        return None if provider_id is None else listing.providers.get(provider_id)

    def close(self) -> None:
        """Ask nothing any more that nobody waits for."""
        if self._asking is not None:
            self._asking.cancel()

    async def azure_providers(self) -> tuple[Provider, ...]:
        """Return the stack's Azure providers, in the order of its configuration."""
        listing = await self._believed()
        return listing.azure_providers

    async def _believed(self) -> Listing:
        """Return what the stack said lately."""
        listing = self._listing
        if listing is None:
            return await self._refreshed(None)
        now = self._monotonic()
        if now < self._believed_until:
            if now >= self._ask_ahead_from and self._asking is None:
                self._ask_ahead_from = min(now + ANSWER_LIMIT, self._believed_until)
                self._asking = asyncio.create_task(self._asked_behind(listing))
                self._asking.add_done_callback(self._no_longer_asking)
            return listing
        try:
            return await self._refreshed(listing)
        except Exception:  # noqa: BLE001 - the request itself tells what is wrong with the stack
            self._believe_from(self._monotonic())
            return listing

    def _believe_from(self, now: float) -> None:
        self._believed_until = now + BELIEVED_FOR
        self._ask_ahead_from = self._believed_until - ASK_AHEAD

    async def _asked_behind(self, listing: Listing) -> None:
        """Ask the stack for nobody's sake; where it does not answer, a request asks it in time."""
        with contextlib.suppress(Exception):
            await self._renewed(listing)

    def _no_longer_asking(self, task: asyncio.Task[None]) -> None:
        """Forget a task, which has the context of the request that began it."""
        if self._asking is task:
            self._asking = None

    async def _refreshed(self, seen: Listing | None) -> Listing:
        """Return what the stack says now, for a request that waits."""
        self.close()  # a failure of what nobody waits for is not this request's
        return await self._renewed(seen)

    async def _renewed(self, seen: Listing | None) -> Listing:
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
            self._believe_from(self._asked_at)
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
