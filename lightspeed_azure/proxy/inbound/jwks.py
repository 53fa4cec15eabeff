"""The keys of an issuer: fetched again and again, and kept while the issuer is down."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.concurrency.last_good import LastGood
from lightspeed_azure.proxy.inbound.fetching import FetchError
from lightspeed_azure.proxy.inbound.jwt import VerificationKey
from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected

_logger = logging.getLogger("lightspeed_azure.inbound")

_FIRST_COOLDOWN = 1.0
"""Seconds between two fetches while there is no key at all and every caller gets 503."""

type Fetch = Callable[[], Awaitable[tuple[VerificationKey, ...]]]


@dataclass(frozen=True, slots=True)
class KeySourceStatus:
    """A snapshot of one source of keys.

    Attributes:
        keys: how many are known.
        reloads: how many fetches brought other keys than before.
        failures: how many fetches failed.
        last_error: why the last one failed, or "".
    """

    keys: int
    reloads: int
    failures: int
    last_error: str


class KeySource:
    """The verification keys of one issuer. Use it from one event loop.

    Args:
        name: what to call it in messages.
        fetch: gets the keys; raises FetchError.
        clock: gives the time.
        refresh: seconds after which they are fetched again.
        cooldown: seconds between two fetches that unknown keys or failures cause.
        sleep: waits.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        *,
        clock: Clock,
        refresh: float,
        cooldown: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._refresh = refresh
        self._cooldown = cooldown
        self._sleep = sleep
        self._last_good = LastGood(self._fetched, monotonic=clock.monotonic)
        self._keeper: asyncio.Task[None] | None = None
        self._reloads = 0
        self._failures = 0

    async def start(self) -> None:
        """Fetch the keys, and go on in the background; a failure is logged, not raised."""
        await self._renew()
        self._keeper = asyncio.create_task(self._keep(), name=f"keys of {self._name}")

    async def close(self) -> None:
        """Fetch no more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        fetch = self._last_good.close()
        if fetch is not None:
            await asyncio.wait((fetch,))

    def holds(self, key: VerificationKey) -> bool:
        """Return whether a key is still one of the issuer's."""
        return key in self._keys

    async def candidates(self, kid: str | None, alg: str) -> list[VerificationKey]:
        """Return the keys that may verify a signature; waits only for a fetch that may bring them.

        Args:
            kid: the name of the key in the token's header, None without one.
            alg: the algorithm in it.

        Raises:
            Rejected: there are no keys at all, or none of this name.
        """
        found = self._find(kid, alg)
        if not found:
            await self._renew(self._pause())
            found = self._find(kid, alg)
        if not self._keys:
            text = "The keys of the issuer cannot be had at the moment; try again"
            raise Rejected(Reason.KEYS_UNAVAILABLE, text, retry_after=self._pause())
        if not found:
            raise Rejected(Reason.UNKNOWN_KEY, "Signed with a key that the issuer does not have")
        return found

    def status(self) -> KeySourceStatus:
        """Return a snapshot."""
        fault = str(self._last_good.failure or "")
        return KeySourceStatus(len(self._keys), self._reloads, self._failures, fault)

    @property
    def _keys(self) -> frozenset[VerificationKey]:
        return self._last_good.value or frozenset()

    def _find(self, kid: str | None, alg: str) -> list[VerificationKey]:
        found = [
            key for key in self._keys if alg in key.algorithms and (kid is None or key.kid == kid)
        ]
        # A token without a `kid` is accepted if only one key fits (RFC 7515, section 4.1.4).
        return found if kid is not None or len(found) == 1 else []

    def _pause(self) -> float:
        """Return the seconds after a fetch in which no other one starts."""
        return self._cooldown if self._keys else min(self._cooldown, _FIRST_COOLDOWN)

    async def _keep(self) -> None:
        while True:
            await self._sleep(self._pause() if self._last_good.failure else self._refresh)
            await self._renew()

    async def _renew(self, cooldown: float = 0.0) -> None:
        with contextlib.suppress(FetchError):  # the last keys stay
            await self._last_good.renew(cooldown)

    async def _fetched(self) -> frozenset[VerificationKey]:
        """Fetch the keys, and log what has changed.

        Raises:
            FetchError: there are none.
        """
        before = self._last_good
        try:
            keys = frozenset(await self._fetch())
        except Exception as error:  # noqa: BLE001 - every failure must leave the last keys in use
            kind = type(error).__name__
            fault = (
                error if isinstance(error, FetchError) else FetchError(f"the fetch failed ({kind})")
            )
            self._failures += 1
            if str(fault) != str(before.failure):
                kept = "The last ones stay in use" if self._keys else "Callers get 503 until then"
                _logger.warning("No new keys of %s: %s. %s", self._name, fault, kept)
            raise fault from None
        if before.failure:
            _logger.info("The keys of %s can be had again", self._name)
        if keys != self._keys:
            self._reloads += 1
            _logger.info("%s has %d keys now", self._name, len(keys))
        return keys
