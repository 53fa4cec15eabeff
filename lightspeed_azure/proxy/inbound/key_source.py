"""The keys of an issuer: fetched behind, again for a key that is not known, and kept while it is down."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.proxy.inbound.fetching import FetchError
from lightspeed_azure.proxy.inbound.jwt import VerificationKey
from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected

_logger = logging.getLogger("lightspeed_azure.inbound")

_FIRST_COOLDOWN = 1.0
"""Seconds between two fetches, at most, while there is no key at all and everybody gets 503."""

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
    """The verification keys of one issuer; for use on one event loop.

    At most one fetch is under way, and all who need it wait for the same one. A fetch that fails
    changes nothing: the keys at hand stay good until another set takes their place.

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
        self._clock = clock
        self._refresh = refresh
        self._cooldown = cooldown
        self._sleep = sleep
        self._keys: frozenset[VerificationKey] = frozenset()
        self._not_before: float | None = None
        self._flight: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reloads = 0
        self._failures = 0
        self._fault = ""

    async def start(self) -> None:
        """Fetch the keys, and keep doing that behind; a failure is logged, not raised."""
        await self._join()
        self._keeper = asyncio.create_task(self._keep(), name=f"keys of {self._name}")

    async def close(self) -> None:
        """Fetch no more."""
        for task in (self._keeper, self._flight):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._keeper = self._flight = None

    def holds(self, key: VerificationKey) -> bool:
        """Return whether a key is still one of the issuer's."""
        return key in self._keys

    async def candidates(self, kid: str | None, alg: str) -> list[VerificationKey]:
        """Return the keys that may verify a signature; waits only for a fetch that may bring them.

        Args:
            kid: the name of the key in the token's header, None without one.
            alg: the algorithm in it.

        Raises:
            Rejected: no key is known by which to judge anybody, or none by this name.
        """
        found = self._find(kid, alg)
        if not found and (self._flight is not None or self._may_fetch()):
            await self._join()
            found = self._find(kid, alg)
        if not self._keys:
            text = "The keys of the issuer cannot be had at the moment; try again"
            raise Rejected(Reason.KEYS_UNAVAILABLE, text, retry_after=self._pause())
        if not found:
            raise Rejected(Reason.UNKNOWN_KEY, "Signed with a key that the issuer does not have")
        return found

    def status(self) -> KeySourceStatus:
        """Return a snapshot."""
        return KeySourceStatus(len(self._keys), self._reloads, self._failures, self._fault)

    def _find(self, kid: str | None, alg: str) -> list[VerificationKey]:
        found = [
            key for key in self._keys if alg in key.algorithms and (kid is None or key.kid == kid)
        ]
        # A token without a name for its key is judged where there is but one (RFC 7515, 4.1.4).
        return found if kid is not None or len(found) == 1 else []

    def _may_fetch(self) -> bool:
        return self._not_before is None or self._clock.monotonic() >= self._not_before

    def _pause(self) -> float:
        """Return how long nothing is fetched after a fetch."""
        return self._cooldown if self._keys else min(self._cooldown, _FIRST_COOLDOWN)

    async def _join(self) -> None:
        """Wait for the fetch under way, or one that starts now; whoever is cancelled leaves alone."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._load(), name=f"fetch keys of {self._name}")
        await asyncio.shield(self._flight)

    async def _keep(self) -> None:
        while True:
            await self._sleep(self._pause() if self._fault else self._refresh)
            await self._join()

    async def _load(self) -> None:
        try:
            self._take(await self._fetch())
        except FetchError as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the keys at hand stay in use
            self._failed(f"fetching its keys broke down ({type(error).__name__})")
        finally:
            self._not_before = self._clock.monotonic() + self._pause()
            self._flight = None

    def _take(self, keys: tuple[VerificationKey, ...]) -> None:
        if self._fault:
            _logger.info("The keys of %s can be had again", self._name)
        self._fault = ""
        found = frozenset(keys)
        if found != self._keys:
            self._keys = found
            self._reloads += 1
            _logger.info("%s has %d keys now", self._name, len(found))

    def _failed(self, fault: str) -> None:
        self._failures += 1
        if fault != self._fault:
            kept = "The last ones stay in use" if self._keys else "Callers get 503 until then"
            _logger.warning("No new keys of %s: %s. %s", self._name, fault, kept)
        self._fault = fault
