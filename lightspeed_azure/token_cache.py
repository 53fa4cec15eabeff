"""The token cache: no request waits for, fails on, or duplicates a token without need.

Three zones (the moments are in `held_token.py`): a *fresh* token is returned at once; a *stale* one
too, while one renewal runs behind; with an *expired* one, or none, callers wait for the one renewal
under way, until a total deadline. One renewal is a flight (`flight.py`), on a thread of its own; at
the deadline its waiters get an error and it is abandoned: a late answer counts only if better.

What is mutable changes under one lock, which is never held over I/O. Readers take `_held`, a
single reference to an immutable value, without it.
"""

import asyncio
import contextlib
import hmac
import logging
import math
import os
import random
import threading
import weakref
from collections.abc import Callable

from pydantic import SecretStr

from lightspeed_azure.backoff import Backoff, fingerprint_of, pause_after
from lightspeed_azure.cache_status import CacheStatus
from lightspeed_azure.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.errors import TokenError, TokenUnavailableError
from lightspeed_azure.flight import Flight, start_daemon_thread
from lightspeed_azure.held_token import MARGIN, Held, Token, hold, least_pause, unchanged
from lightspeed_azure.renewal_log import Line, RenewalLog, nothing
from lightspeed_azure.scheduler import TIMER_THREAD, Scheduler, TimerHandle
from lightspeed_azure.token_source import Attempt, IssuedToken, TokenSource

__all__ = ["CacheStatus", "Token", "TokenCache"]

MOST_ABANDONED = 2
"""Flights that may hang past their deadline before no more are started: each holds a thread."""

_SHORTEST_TIMER = 0.05
"""Seconds: clocks disagree in their last digits, and a timer of nothing would spin."""

_logger = logging.getLogger(__name__)


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
    """

    _lock: threading.Lock
    _flight: Flight | None
    _abandoned: set[Flight]
    _timer: TimerHandle | None

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
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._source = source
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._scheduler = scheduler
        self._launch = launch
        self._random = random
        self._log = RenewalLog(logger, name)
        self._backoff = Backoff(source)
        self._held: Held | None = None
        self._used = False  # since the last good answer
        self._closed = False
        self._latest: Token | None = None
        self._rejected: Held | None = None
        self._returned = 0  # how often the source gave back the rejected token, in a row
        self._stand_until = -math.inf  # monotonic: until then a returned token is not dropped
        self._last_success: float | None = None
        self._last_error: TokenError | None = None
        self._renewals = 0
        self._failures = 0
        self._begin_alone()
        _caches.add(self)

    def get(self, *, min_remaining: float = 0.0) -> Token:
        """Return a valid token; waits at most `deadline` seconds, and only without a valid one.

        Args:
            min_remaining: seconds of life to wait for, at most half of the token's lifetime. When
                the renewal fails a valid token with less is returned all the same.

        Raises:
            TokenUnavailableError: none can be had just now.
            CredentialRejectedError: none until something changes.
        """
        held = self._held
        if (
            held is not None
            and not min_remaining
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            self._used = True
            return held.token
        return self._wait(min_remaining, renew=False)

    async def aget(self, *, min_remaining: float = 0.0) -> Token:
        """Do what `get` does without holding up the event loop; cancelling it stops no renewal."""
        held = self._held
        if (
            held is not None
            and not min_remaining
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            self._used = True
            return held.token
        return await self._wait_async(min_remaining, renew=False)

    def peek(self) -> Token | None:
        """Return the token if it is valid; never waits, starts nothing, and counts as no use."""
        held = self._held
        if held is None or held.zone(self._wall(), self._monotonic()) == "expired":
            return None
        return held.token

    def latest(self) -> Token | None:
        """Return the last token had, even an expired or rejected one: for showing, not for use."""
        return self._latest

    def renew_if_due(self) -> None:
        """Start a renewal if the token is stale, expired or missing and none runs; never waits.

        Counts as use. A back-off is respected.
        """
        self._used = True
        held = self._held
        if held is None or held.zone(self._wall(), self._monotonic()) != "fresh":
            self._renew_behind(held)

    def refresh(self) -> Token:
        """Join or start a renewal, wait for it, and return the token.

        Raises:
            TokenError: the renewal failed, even when the current token is still valid, or the
                back-off after a failure has not ended.
        """
        return self._wait(0.0, renew=True)

    async def arefresh(self) -> Token:
        """Do what `refresh` does without holding up the event loop."""
        return await self._wait_async(0.0, renew=True)

    def invalidate(self, secret: SecretStr | str) -> bool:
        """Drop the token if it is this one, which was rejected; return whether it was dropped.

        Everybody whose token was rejected may call this: the next getters share one renewal. A
        source that gives back the very same token is taken at its word for a while, longer each
        time, in which that token is not dropped again.
        """
        with self._lock:
            held = self._held
            if held is None or not _equal(held.token.secret, secret):
                return False
            if self._monotonic() < self._stand_until:
                return False
            self._held, self._rejected = None, held
            self._disarm()
            return True

    def status(self) -> CacheStatus:
        """Return a snapshot for people; it never waits for a renewal."""
        with self._lock:
            wall, mono = self._wall(), self._monotonic()
            held, flight, error = self._held, self._flight, self._last_error
            return CacheStatus(
                name=self.name,
                zone="empty" if held is None else held.zone(wall, mono),
                expires_on=None if held is None else held.token.expires_on,
                acquired_on=None if held is None else held.token.acquired_on,
                remaining=None if held is None else max(0.0, held.remaining(wall, mono)),
                last_success=self._last_success,
                last_error=None if error is None else type(error).__name__,
                last_error_text=None if error is None else str(error),
                consecutive_failures=self._backoff.failures,
                next_attempt=self._next_in(wall, mono),
                renewals=self._renewals,
                failures=self._failures,
                waiting=0 if flight is None else flight.waiting,
                refreshing=flight is not None,
            )

    def close(self) -> None:
        """Start nothing any more; a valid token is served to its end, then TokenUnavailableError.

        A renewal under way still serves those who wait for it.
        """
        with self._lock:
            self._closed = True
            self._disarm()

    def _wait(self, need: float, *, renew: bool) -> Token:
        until = math.inf
        seen: Flight | None = None
        while True:
            answer = self._decide(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
            bound = min(answer.deadline, until)
            in_time = answer.wait(max(0.0, bound - self._monotonic()))
            if not in_time and bound == answer.deadline:
                self._overdue(answer)
            seen = answer

    async def _wait_async(self, need: float, *, renew: bool) -> Token:
        until = math.inf
        seen: Flight | None = None
        while True:
            answer = self._decide(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
                await answer.wait_async()  # the flight's own timer bounds it
            else:
                left = max(0.0, until - self._monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await answer.wait_async()
            seen = answer

    def _decide(
        self, need: float, *, renew: bool, seen: Flight | None, until: float
    ) -> Token | Flight:
        """Return the token to serve, or the flight to wait for.

        Args:
            need: seconds of life that are wanted.
            renew: whether a valid token will not do.
            seen: the flight that has been waited for.
            until: monotonic seconds at which to wait no longer.
        """
        while True:
            self._used = True
            wall, mono = self._wall(), self._monotonic()
            held = self._held
            valid = held is not None and held.zone(wall, mono) != "expired"
            if seen is not None and seen.error is not None and (renew or not valid):
                raise seen.error.replica(retry_after=self._backoff.ends_in(mono)) from None
            if held is not None and valid:
                wanted = seen is None and (renew or not _lasts(held, need, wall, mono))
                if not wanted:
                    self._attend(held, wall, mono)
                    return held.token
            if seen is not None and mono >= until:
                raise self._no_answer()
            try:
                flight = self._board(held, mono)
            except TokenError:
                if held is None or not valid or renew:
                    raise
                return held.token
            if flight is not None:
                return flight

    def _attend(self, held: Held, wall: float, mono: float) -> None:
        """Do what is due around a valid token that is being served."""
        if held.zone(wall, mono) == "stale":
            self._renew_behind(held)
        elif held.gate_mono == -math.inf:
            with self._lock:
                if self._held is held:
                    self._held = held.ungated()
                    self._arm()

    def _renew_behind(self, held: Held | None) -> None:
        """Start a renewal if none runs and none is forbidden."""
        mono = self._monotonic()
        if self._flight is None and not self._backoff.resting(mono):
            with contextlib.suppress(TokenError):
                self._board(held, mono)

    def _board(self, held: Held | None, mono: float) -> Flight | None:
        """Return the flight under way or a new one; None when `held` is no longer what is held."""
        resting = self._backoff.resting(mono)  # may look at files, so not under the lock
        with self._lock:
            if self._flight is not None:
                return self._flight
            if self._held is not held:
                return None
            error = self._backoff.error
            if error is not None and resting and mono < self._backoff.until:
                raise error.replica(retry_after=self._backoff.ends_in(mono))
            if self._closed:
                raise TokenUnavailableError(f"The token cache for {self.name} has been closed")
            if len(self._abandoned) >= MOST_ABANDONED:
                raise TokenUnavailableError(
                    f"{len(self._abandoned)} requests for a token for {self.name} hang",
                    cure="Check the network and the proxy between here and the authority",
                    retry_after=self.deadline,
                )
            flight = self._take_off(mono)
        self._start(flight)
        return flight

    def _take_off(self, mono: float) -> Flight:
        token = self._latest
        flight = Flight(
            deadline=mono + self.deadline, previous=None if token is None else token.secret
        )
        flight.timer = self._scheduler.call_later(self.deadline, lambda: self._overdue(flight))
        self._flight = flight
        self._disarm()
        return flight

    def _start(self, flight: Flight) -> None:
        try:
            self._launch(f"lightspeed-azure-token-{self.name}", lambda: self._fly(flight))
        except Exception as error:  # noqa: BLE001  # no thread to be had: a failure like any other
            self._land(flight, _unexpected(error, "A request for a token could not be started"))

    def _fly(self, flight: Flight) -> None:
        """Ask the source, on the flight's own thread."""
        fingerprint = fingerprint_of(self._source)
        sent = self._wall(), self._monotonic()
        # A little less than the waiters have, so that the source's own words reach them.
        left = flight.deadline - sent[1] - min(0.5, self.deadline / 10)
        outcome: IssuedToken | TokenError
        try:
            outcome = _checked(self._source(Attempt(max(0.0, left), sent[0], flight.previous)))
        except TokenError as error:
            outcome = _detached(error)
        except BaseException as error:  # noqa: BLE001  # whatever it is, somebody waits
            outcome = _unexpected(error, f"The source of the token for {self.name} broke down")
        self._land(flight, outcome, sent, fingerprint)

    def _land(
        self,
        flight: Flight,
        outcome: IssuedToken | TokenError,
        sent: tuple[float, float] = (0.0, 0.0),
        fingerprint: object = None,
    ) -> None:
        """Take in what the source said, and let the waiters go."""
        settled = [flight]
        line: Line = nothing
        with self._lock:
            live = flight is self._flight
            if not live and flight not in self._abandoned:
                return  # of the process that this one was forked from
            flight.timer.cancel()
            self._abandoned.discard(flight)
            if live:
                self._flight = None
            error: TokenError | None
            if isinstance(outcome, TokenError):
                error = outcome
            else:
                error, line = self._arrived(outcome, sent, live=live)
            if error is not None and live:
                line = self._failed(error, fingerprint)
            elif error is None and not live and self._flight is not None:
                # Those who wait for the live flight have what they wait for.
                settled.append(self._flight)
                self._abandoned.add(self._flight)
                self._flight = None
            self._arm()
        for each in settled:
            each.settle(error)
        line()

    def _overdue(self, flight: Flight) -> None:
        """Abandon a flight that has reached its deadline."""
        error = self._no_answer()
        with self._lock:
            if flight is not self._flight:
                return
            self._flight = None
            self._abandoned.add(flight)
            line = self._failed(error, None)
            self._arm()
        flight.settle(error)
        line()

    def _arrived(
        self, issued: IssuedToken, sent: tuple[float, float], *, live: bool
    ) -> tuple[TokenError | None, Line]:
        """Hold what has arrived if it is of use; return the error if it is not, and a log line."""
        now = self._wall(), self._monotonic()
        held, rejected = self._held, self._rejected
        new = hold(issued, sent=sent, now=now, number=self._renewals + 1, random=self._random)
        kept: Held | None
        if held is not None and _equal(held.token.secret, issued.secret):
            kept, log = unchanged(held, new, now), self._log.unchanged
        elif held is None and rejected is not None and _equal(rejected.token.secret, issued.secret):
            pause = min(MARGIN, least_pause(rejected) * 2 ** min(self._returned, 8))
            kept, log = unchanged(rejected, new, now, pause=pause), self._log.returned
            if kept is not None:
                self._returned += 1
                self._stand_until = now[1] + pause
        elif new.usable_for(*now) <= 0:
            kept, log = None, self._log.renewed
        elif held is not None and _better(held, new, now, live=live):
            kept = held.kept(max(least_pause(held), held.remaining(*now) / 2), *now)
            log = self._log.unchanged
        else:
            kept, log = new, self._log.renewed
            self._renewals += 1
            self._rejected, self._returned, self._stand_until = None, 0, -math.inf
        if kept is None:
            text = f"The token for {self.name} had expired when it arrived"
            return TokenUnavailableError(text, cure="Check this machine's clock"), nothing
        self._held, self._latest = kept, kept.token
        self._used = False
        self._last_success = now[0]
        self._backoff.succeeded()
        return None, log(kept, now)

    def _failed(self, error: TokenError, fingerprint: object) -> Line:
        now = self._wall(), self._monotonic()
        held = self._held
        usable_for = 0.0 if held is None else held.usable_for(*now)
        if not usable_for:
            self._used = False
        self._failures += 1
        self._last_error = error
        failures = self._backoff.failures + 1
        pause = pause_after(error, failures, usable_for=usable_for, random=self._random)
        self._backoff.failed(error, pause, now[1], fingerprint)
        return self._log.failed(error, held, now)

    def _next_in(self, wall: float, mono: float) -> float | None:
        """Return the seconds until the next attempt is due and allowed."""
        if self._held is None:
            return None if self._backoff.error is None else self._backoff.ends_in(mono)
        return max(self._held.due_in(wall, mono), self._backoff.ends_in(mono))

    def _arm(self) -> None:
        """Arrange the next renewal; it takes place only if the token has been used by then."""
        self._disarm()
        if self._closed or self._flight is not None or len(self._abandoned) >= MOST_ABANDONED:
            return
        delay = self._next_in(self._wall(), self._monotonic())
        if delay is not None:
            self._timer = self._scheduler.call_later(max(delay, _SHORTEST_TIMER), _weakly(self))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew_if_used(self) -> None:
        """Renew if that is due and the token was used since it was renewed; for the timer."""
        with self._lock:
            if self._flight is not None or not self._used or self._closed:
                return
            if len(self._abandoned) >= MOST_ABANDONED:
                return
            mono = self._monotonic()
            delay = self._next_in(self._wall(), mono)
            if delay is None:
                return
            if delay > _SHORTEST_TIMER:
                self._arm()
                return
            flight = self._take_off(mono)
        self._start(flight)

    def _no_answer(self) -> TokenError:
        return TokenUnavailableError(
            f"No answer about a token for {self.name} within {self.deadline:g} s",
            cure="Check the network and the proxy between here and the authority",
        )

    def _begin_alone(self) -> None:
        """Begin with no flight, no timer and no lock of anybody else's."""
        self._lock = threading.Lock()
        self._flight = None
        self._abandoned = set()
        self._timer = None

    def drop_the_parents(self) -> None:
        """Drop what a fork leaves behind in the child: threads, timers, locks; keep the token."""
        self._begin_alone()
        self._used = False
        if self._held is not None:
            self._held = self._held.gated()  # the first reader arranges the next renewal


_caches: weakref.WeakSet[TokenCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_caches):
        cache.drop_the_parents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _weakly(cache: TokenCache) -> Callable[[], None]:
    """Return the timer's callback, which does not keep a forgotten cache alive."""
    reference = weakref.ref(cache)

    def renew() -> None:
        there = reference()
        if there is not None:
            there.renew_if_used()

    return renew


def _lasts(held: Held, need: float, wall: float, mono: float) -> bool:
    """Return whether it lives `need` seconds more, or nothing that does is to be had."""
    if need <= 0 or (held.insisted and held.zone(wall, mono) == "fresh"):
        return True
    return held.remaining(wall, mono) >= min(need, held.token.lifetime / 2)


def _better(held: Held, new: Held, now: tuple[float, float], *, live: bool) -> bool:
    """Return whether the token in hand serves longer than the one that has arrived.

    A late answer must end later. A timely one is preferred if it leaves MARGIN for its renewal.
    """
    left = held.usable_for(*now)
    return new.usable_for(*now) < (min(left, MARGIN) if live else left)


def _equal(one: SecretStr, other: SecretStr | str) -> bool:
    """Compare in a time that does not tell how far they agree."""
    text = other if isinstance(other, str) else other.get_secret_value()
    return hmac.compare_digest(
        one.get_secret_value().encode(errors="surrogatepass"),
        text.encode(errors="surrogatepass"),
    )


def _checked(issued: IssuedToken) -> IssuedToken:
    """Return an equal value, after touching every field where a mistake is still the source's."""
    refresh_in = None if issued.refresh_in is None else float(issued.refresh_in)
    if not issued.secret.get_secret_value():
        raise TokenUnavailableError("The source gave an empty token")
    return IssuedToken(issued.secret, float(issued.expires_in), refresh_in)


def _detached(error: TokenError) -> TokenError:
    """Return the same error without the frames and the causes that it came with."""
    try:
        return error.replica()
    except Exception as broken:  # noqa: BLE001  # a foreign subclass with another constructor
        return _unexpected(broken, f"{type(error).__name__} cannot be passed on")


def _unexpected(error: BaseException, text: str) -> TokenError:
    """Return an error that names only the class: a message that is not ours may hold a secret."""
    return TokenUnavailableError(f"{text} ({type(error).__name__})")
