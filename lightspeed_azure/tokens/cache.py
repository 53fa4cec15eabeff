"""The token cache: no request waits for, fails on, or duplicates a token without need.

Three zones (the moments are in `held_token.py`): a *fresh* token is returned at once; a *stale* one
too, while one renewal runs behind; with an *expired* one, or none, callers wait for the one renewal
under way, until a total deadline. One renewal is a flight (`flight.py`), on a thread of its own; at
the deadline its waiters get an error and it is abandoned: a late answer counts only if better
(`renewals.py`). Readers of a fresh token take no lock: one reference to an immutable value.
"""

import logging
import random
import weakref
from collections.abc import Callable

from pydantic import SecretStr

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import reset_in_child
from lightspeed_azure.concurrency.threads import start_daemon_thread
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler
from lightspeed_azure.tokens.callers import Callers
from lightspeed_azure.tokens.collaborators import Collaborators
from lightspeed_azure.tokens.derived import Derived
from lightspeed_azure.tokens.lifetime import Token
from lightspeed_azure.tokens.renewals import Renewals
from lightspeed_azure.tokens.source import TokenSource
from lightspeed_azure.tokens.status import CacheStatus, snapshot

__all__ = ["CacheStatus", "Derived", "Token", "TokenCache"]

_logger = logging.getLogger("lightspeed_azure.tokens")


class TokenCache:
    """The token of one tenant, client, authority and scope, kept current.

    Safe for use by any number of threads and event loops at once. Nothing is fetched before the
    first use. Knows no Azure and no HTTP. A fork's child keeps the token and drops all the rest.

    Args:
        source: where tokens come from; called on a thread of its own.
        name: what to call this entry in messages.
        deadline: seconds that a caller waits at most.
        clock: gives the time.
        scheduler: makes the calls that are to happen later; by default one thread of the process.
        launch: runs a named function elsewhere; by default on a daemon thread of its own.
        random: gives numbers from 0 up to 1, for jitter.
        logger: where the lines go.
        hang: returns why the source may not return, and the cure; None when only the network can
            be why.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        name: str = "azure",
        deadline: float = 15.0,
        clock: Clock = SYSTEM_CLOCK,
        scheduler: Scheduler = TIMER_THREAD,
        launch: Callable[[str, Callable[[], None]], None] = start_daemon_thread,
        random: Callable[[], float] = random.random,
        logger: logging.Logger = _logger,
        hang: Callable[[], tuple[str, str] | None] = lambda: None,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._clock = clock
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._renewals = Renewals(
            Collaborators(source, name, deadline, clock, scheduler, launch, random, logger, hang),
            _weakly(self),
        )
        self._holding = self._renewals.holding
        self._callers = Callers(self._renewals, clock)
        reset_in_child(self)

    def get(self, *, min_remaining: float = 0.0) -> Token:
        """Return a valid token; waits at most `deadline` seconds, and only without a valid one.

        Args:
            min_remaining: seconds of life to wait for, at most 0.4 of the token's lifetime. When
                the renewal fails a valid token with less is returned all the same.

        Raises:
            TokenUnavailableError: none can be had just now.
            CredentialRejectedError: none until something changes.
        """
        held = self._holding.held
        if (
            held is not None
            and not min_remaining
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            self._holding.used = True
            return held.token
        return self._callers.wait(min_remaining, renew=False)

    async def aget(self, *, min_remaining: float = 0.0) -> Token:
        """Do what `get` does without holding up the event loop; cancelling it stops no renewal."""
        held = self._holding.held
        if (
            held is not None
            and not min_remaining
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            self._holding.used = True
            return held.token
        return await self._callers.wait_async(min_remaining, renew=False)

    def derived[T](self, make: Callable[[Token], T]) -> Derived[T]:
        """Return a reader of `make(token)`, worked out once a token; it costs what `get` costs."""
        return Derived(self, self._holding, self._clock, make)

    def peek(self) -> Token | None:
        """Return the token if it is valid; never waits, starts nothing, and counts as no use."""
        held = self._holding.held
        if held is None or held.zone(self._wall(), self._monotonic()) == "expired":
            return None
        return held.token

    def latest(self) -> Token | None:
        """Return the last token had, even an expired or rejected one: for showing, not for use."""
        return self._holding.latest

    def renew_if_due(self) -> None:
        """Start a renewal if the token is stale, expired or missing and none runs; never waits.

        Counts as use. A back-off is respected.
        """
        self._holding.used = True
        held = self._holding.held
        if held is None or held.zone(self._wall(), self._monotonic()) != "fresh":
            self._callers.renew_behind(held)

    def refresh(self) -> Token:
        """Join or start a renewal, wait for it, and return the token.

        Raises:
            TokenError: the renewal failed, even when the current token is still valid, or the
                back-off after a failure has not ended.
        """
        return self._callers.wait(0.0, renew=True)

    async def arefresh(self) -> Token:
        """Do what `refresh` does without holding up the event loop."""
        return await self._callers.wait_async(0.0, renew=True)

    def invalidate(self, secret: SecretStr | str, by: str = "") -> bool:
        """Drop the token if it is this one, which was rejected; return whether it was dropped.

        Every caller whose token was rejected may call this: the next callers share one renewal.
        When a resource also rejects the new token, that token is kept for a while (30 s at first,
        then longer, at most 5 minutes) unless `accepted` was called for it in between. The same
        holds when the source returns the rejected token again.

        Args:
            secret: the token that was rejected.
            by: the resource that rejected it. Each resource is limited on its own.
        """
        with self._renewals.lock:
            dropped = self._holding.drop(secret, by, self._monotonic())
            if dropped:
                self._renewals.disarm()
            return dropped

    def accepted(self, token: Token, by: str = "") -> None:
        """Note that a resource accepted a token, so that its next rejection replaces it at once."""
        if self._holding.rejections.last:
            with self._renewals.lock:
                self._holding.rejections.accepted(token, by)

    def status(self) -> CacheStatus:
        """Return a snapshot for people; it never waits for a renewal."""
        return snapshot(self.name, self._renewals, self._clock)

    def close(self) -> None:
        """Start nothing any more; a valid token is served to its end, then TokenUnavailableError.

        A renewal under way still serves those who wait for it.
        """
        with self._renewals.lock:
            self._renewals.closed = True
            self._renewals.disarm()

    def renew_if_used(self) -> None:
        """Renew if that is due and the token was used since it was renewed; for the idle timer."""
        self._renewals.renew_if_used()

    def after_fork(self) -> None:
        """Drop the parent's flights and timers in a forked child; keep the token."""
        self._renewals.after_fork()


def _weakly(cache: TokenCache) -> Callable[[], None]:
    """Return the timer's callback, which does not keep a forgotten cache alive."""
    reference = weakref.ref(cache)

    def renew() -> None:
        there = reference()
        if there is not None:
            there.renew_if_used()

    return renew
