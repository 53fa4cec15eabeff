"""The token cache: no request waits for, fails on, or duplicates a token without need.

A *fresh* token is returned at once. A *stale* one too, while one refresh runs in the background.
With an *expired* one, or none, callers wait for the one refresh in flight, up to a total deadline.
A refresh is a `SingleFlight` on a daemon thread of its own. At the deadline its waiters get an error
and it is abandoned: a late result counts only if it is better.

The moments of a token are in `lifetime.py`. Nothing here knows Azure or HTTP.
"""

import asyncio
import contextlib
import hmac
import logging
import math
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import ForkLock, reset_in_child
from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.concurrency.threads import log_in_background, start_daemon_thread
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler, TimerHandle
from lightspeed_azure.errors import (
    CredentialRejectedError,
    InvalidConfigurationError,
    TokenError,
    TokenUnavailableError,
)
from lightspeed_azure.tokens.lifetime import (
    FIRST_WRITE_OFF,
    LONGEST_REJECTION_PAUSE,
    LONGEST_RETURNED_PAUSE,
    LONGEST_WRITE_OFF,
    REFRESH_MARGIN,
    CachedToken,
    Moment,
    Token,
    Zone,
    backoff_pause,
    cached_token,
    least_pause,
    longer_each_time,
    returned_again,
)
from lightspeed_azure.tokens.source import Attempt, IssuedToken, TokenSource

MOST_ABANDONED = 2
"""Flights that may hang past their deadline before no more are started: each holds a thread."""

_SHORTEST_TIMER = 0.05
"""Seconds: clocks differ in their last digits, and a timer of zero would spin."""

_FINGERPRINT_INTERVAL = 1.0
"""Seconds between looks at the credential's files while callers fail fast."""

_CHECK_THE_NETWORK = "Check the network and the proxy between here and the authority"

type Arrival = Literal["renewed", "unchanged", "returned", "useless"]
"""A new token; the cached one, or none better; the rejected one again; a dead or late one."""

type _Line = Callable[[], None]
"""Writes one log line; called when no lock is held, because a log handler may block."""

type _Flight = SingleFlight[TokenError | None]

_logger = logging.getLogger("lightspeed_azure.tokens")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """A snapshot of one token cache; it contains no secret.

    Attributes:
        name: which cache.
        zone: the zone of its token.
        expires_on: POSIX seconds at which the token expires, or None without one.
        acquired_on: POSIX seconds at which the request for it was sent, or None.
        remaining: seconds until it expires, 0 afterwards, or None.
        last_success: POSIX seconds of the last success, or None.
        last_error: class of the last error, or None; it stays after a recovery.
        last_error_text: its message, or None.
        last_error_cure: what to do about it, "" when that is not known.
        consecutive_failures: how many attempts have failed since the last success.
        next_attempt: seconds until the next attempt is due or allowed, or None when none is known.
        renewals: how many tokens were issued.
        failures: how many attempts failed.
        waiting: callers that wait now.
        waits: how many callers have had to wait for a token, those that wait now included.
        refreshing: whether an attempt is in flight.
    """

    name: str
    zone: Zone
    expires_on: float | None
    acquired_on: float | None
    remaining: float | None
    last_success: float | None
    last_error: str | None
    last_error_text: str | None
    last_error_cure: str
    consecutive_failures: int
    next_attempt: float | None
    renewals: int
    failures: int
    waiting: int
    waits: int
    refreshing: bool


@dataclass(frozen=True, slots=True)
class _Rejection:
    """The last rejection by a resource that replaced the token."""

    count: int  # replacements since the resource last accepted a token
    until: float  # monotonic seconds before which its rejections replace no further token
    number: int  # of the token that was rejected


class TokenCache:
    """The token of one tenant, client, authority and scope, kept current.

    Safe for use by any number of threads and event loops at once. Nothing is fetched before the
    first use. A forked child keeps the token and drops the parent's flights and timers.

    Args:
        source: where tokens come from; called on a thread of its own.
        name: what to call this entry in messages.
        deadline: seconds that a caller waits at most.
        clock: gives the time.
        scheduler: makes calls later; by default one thread of the process.
        launch: runs a named function elsewhere; by default on a daemon thread of its own.
        random: gives numbers from 0 up to 1, for jitter.
        logger: where log lines go.
        hang: returns why the source may not return, and the cure; None when only the network can
            be why.

    Attributes:
        current: the cached token; replaced as a whole, so that reading it needs no lock.
        used: whether the token was used since the last success; set without the lock.
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
        self.current: CachedToken | None = None
        self.used = False
        self._source = source
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._scheduler = scheduler
        self._launch = launch
        self._random = random
        self._logger = logger
        self._hang = hang
        self._on_timer = _weakly(self)
        self._lock = ForkLock()  # guards all that follows; never held over I/O or foreign code
        self._flight: _Flight | None = None
        self._abandoned: dict[_Flight, float] = {}  # and until when each counts, monotonic
        self._timer: TimerHandle | None = None
        self._closed = False
        # Tokens.
        self._latest: Token | None = None  # the last one, even if it has expired or was rejected
        self._issued = 0
        self._rejected: CachedToken | None = None
        self._returned = 0  # how often the source returned the rejected token, in a row
        self._returned_until = -math.inf  # monotonic: until then the returned token is kept
        self._rejections: dict[str, _Rejection] = {}  # by resource
        # Successes and failures.
        self._waits = 0
        self._failures = 0
        self._failed_in_a_row = 0
        self._error: TokenError | None = None  # the failure that the back-off is for
        self._last_error: TokenError | None = None
        self._last_success: float | None = None
        self._backoff_until = -math.inf  # monotonic
        self._fingerprint: object = None  # of the credential that failed
        self._fingerprint_at = -math.inf  # monotonic: when it was last compared
        self._logged_level = logging.INFO  # of the present series of failures
        reset_in_child(self)

    # -- callers -----------------------------------------------------------------------------

    def get(self, *, min_remaining: float = 0.0) -> Token:
        """Return a valid token; waits at most `deadline` seconds, and only without a valid one.

        Args:
            min_remaining: seconds of life that the token must have left, at most 0.4 of its
                lifetime. When the refresh for it fails, a valid token with less is returned.

        Raises:
            TokenUnavailableError: there is no token at the moment.
            CredentialRejectedError: there is none until something changes.
        """
        cached = self.current
        if (
            cached is not None
            and not min_remaining
            and self._wall() < cached.gate_wall
            and self._monotonic() < cached.gate_mono
        ):
            self.used = True
            return cached.token
        return self._wait(min_remaining, renew=False)

    async def aget(self, *, min_remaining: float = 0.0) -> Token:
        """Do what `get` does without blocking the event loop; cancelling it stops no refresh."""
        cached = self.current
        if (
            cached is not None
            and not min_remaining
            and self._wall() < cached.gate_wall
            and self._monotonic() < cached.gate_mono
        ):
            self.used = True
            return cached.token
        return await self._wait_async(min_remaining, renew=False)

    def view[T](self, make: Callable[[Token], T]) -> "TokenView[T]":
        """Return a reader of `make(token)`, made once for each token; reading costs what `get` costs."""
        return TokenView(self, self._wall, self._monotonic, make)

    def peek(self) -> Token | None:
        """Return the token if it is valid; never waits, starts nothing, and does not count as use."""
        cached = self.current
        if cached is None or cached.zone(self._wall(), self._monotonic()) == "expired":
            return None
        return cached.token

    def latest(self) -> Token | None:
        """Return the last token, even an expired or rejected one: for display, not for use."""
        return self._latest

    def renew_if_due(self) -> None:
        """Start a refresh if the token is stale, expired or missing and none runs; never waits.

        Counts as use. A back-off is respected.
        """
        self.used = True
        cached = self.current
        if cached is None or cached.zone(self._wall(), self._monotonic()) != "fresh":
            self._renew_in_background(cached)

    def refresh(self) -> Token:
        """Join or start a refresh, wait for it, and return the token.

        Raises:
            TokenError: the refresh failed, even when the current token is still valid, or the
                back-off after a failure has not ended.
        """
        return self._wait(0.0, renew=True)

    async def arefresh(self) -> Token:
        """Do what `refresh` does without blocking the event loop."""
        return await self._wait_async(0.0, renew=True)

    def invalidate(self, secret: SecretStr | str, by: str = "") -> bool:
        """Drop the token if it is this one, which was rejected; return whether it was dropped.

        Every caller whose token was rejected may call this: the next callers share one refresh.
        When a resource also rejects the new token, that token is kept for a while (30 s at first,
        then longer, at most 5 minutes) unless `accepted` was called for it in between. The same
        holds when the source returns the rejected token again.

        Args:
            secret: the token that was rejected.
            by: the resource that rejected it. Each resource is limited on its own.
        """
        with self._lock:
            cached, mono = self.current, self._monotonic()
            if cached is None or mono < self._returned_until:
                return False
            if not _equal(cached.token.secret, secret):
                return False
            before = self._rejections.get(by)
            if before is not None and mono < before.until:
                return False
            count = 0 if before is None else before.count + 1
            pause = longer_each_time(least_pause(cached), count, LONGEST_REJECTION_PAUSE)
            self._rejections[by] = _Rejection(count, mono + pause, cached.token.number)
            self.current, self._rejected = None, cached
            self._disarm()
            return True

    def accepted(self, token: Token, by: str = "") -> None:
        """Note that a resource accepted a token, so that its next rejection replaces it at once."""
        if self._rejections:
            with self._lock:
                before = self._rejections.get(by)
                if before is not None and token.number > before.number:
                    del self._rejections[by]

    def status(self) -> CacheStatus:
        """Return a snapshot; it never waits for a refresh."""
        with self._lock:
            now = self._now()
            cached, error = self.current, self._last_error
            token = None if cached is None else cached.token
            return CacheStatus(
                name=self.name,
                zone="empty" if cached is None else cached.zone(*now),
                expires_on=None if token is None else token.expires_on,
                acquired_on=None if token is None else token.acquired_on,
                remaining=None if cached is None else max(0.0, cached.remaining(*now)),
                last_success=self._last_success,
                last_error=None if error is None else type(error).__name__,
                last_error_text=None if error is None else str(error),
                last_error_cure="" if error is None else error.cure,
                consecutive_failures=self._failed_in_a_row,
                next_attempt=self._next_in(),
                renewals=self._issued,
                failures=self._failures,
                waiting=0 if self._flight is None else self._flight.waiters,
                waits=self._waits,
                refreshing=self._flight is not None,
            )

    def close(self) -> None:
        """Start no refresh any more; a valid token is returned to its end.

        A refresh in flight still serves the callers that wait for it.
        """
        with self._lock:
            self._closed = True
            self._disarm()

    def after_fork(self) -> None:
        """Drop the parent's flights and timers in a forked child; keep the token."""
        self._flight = None
        self._abandoned = {}
        self._timer = None
        self.used = False
        if self.current is not None:
            self.current = self.current.gated()  # the first reader arms the timer

    # -- waiting -----------------------------------------------------------------------------

    def _wait(self, need: float, *, renew: bool) -> Token:
        """Return a valid token; waits on this thread when there is none.

        Args:
            need: seconds of life that the token must have left.
            renew: whether to wait for a refresh even with a valid token.
        """
        until = math.inf
        seen: _Flight | None = None
        while True:
            answer = self._token_or_flight(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
                self._count_wait(renew=renew)
            bound = min(answer.deadline, until)
            in_time = answer.wait(max(0.0, bound - self._monotonic()))
            if not in_time and bound == answer.deadline:
                self._abandon(answer)
            seen = answer

    async def _wait_async(self, need: float, *, renew: bool) -> Token:
        """Do what `_wait` does without blocking the event loop."""
        until = math.inf
        seen: _Flight | None = None
        while True:
            answer = self._token_or_flight(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
                self._count_wait(renew=renew)
                await self._wait_for(answer)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, until - self._monotonic())):
                        await self._wait_for(answer)
            seen = answer

    async def _wait_for(self, flight: _Flight) -> None:
        """Wait for a flight until its deadline, even if the timer thread is late or missing."""
        while (left := flight.deadline - self._monotonic()) > 0:
            if await flight.wait_async(left):
                return
        self._abandon(flight)

    def _count_wait(self, *, renew: bool) -> None:
        if not renew:  # a caller of `refresh` means to wait
            with self._lock:
                self._waits += 1

    def _token_or_flight(
        self, need: float, *, renew: bool, seen: _Flight | None, until: float
    ) -> "Token | _Flight":
        """Return the token to use, or the flight to wait for.

        Args:
            need: seconds of life that the token must have left.
            renew: whether a valid token is not enough.
            seen: the flight that the caller has waited for.
            until: monotonic seconds at which the caller stops waiting.
        """
        while True:
            self.used = True
            wall, mono = self._now()
            cached = self.current
            valid = cached is not None and cached.zone(wall, mono) != "expired"
            if seen is not None and seen.result is not None and (renew or not valid):
                raise seen.result.replica(retry_after=self._backoff_left(mono)) from None
            if cached is not None and valid:
                wanted = seen is None and (renew or not cached.lasts(need, wall, mono))
                if not wanted:
                    self._attend(cached, wall, mono)
                    return cached.token
            if seen is not None and mono >= until:
                raise self._no_answer()
            try:
                flight = self._join_or_start(cached)
            except TokenError:
                if cached is None or not valid or renew:
                    raise
                return cached.token
            if flight is not None:
                return flight

    def _attend(self, cached: CachedToken, wall: float, mono: float) -> None:
        """Do what is due for a valid token that is returned to a caller."""
        if cached.zone(wall, mono) == "stale":
            self._renew_in_background(cached)
        elif cached.gate_mono == -math.inf:
            with self._lock:
                if self.current is cached:
                    self.current = cached.ungated()
                    self._arm()

    def _renew_in_background(self, cached: CachedToken | None) -> None:
        if self._flight is None and not self._backing_off(self._monotonic()):
            with contextlib.suppress(TokenError):
                self._join_or_start(cached)

    # -- flights -----------------------------------------------------------------------------

    def _join_or_start(self, cached: CachedToken | None) -> _Flight | None:
        """Return the flight in progress or a new one; None when `cached` is no longer current.

        Raises:
            TokenError: there is none, and none may be started now.
        """
        mono = self._monotonic()
        backing_off = self._backing_off(mono)  # may look at files, so not under the lock
        with self._lock:
            if self._flight is not None:
                return self._flight
            if self.current is not cached:
                return None
            if self._error is not None and backing_off and mono < self._backoff_until:
                raise self._error.replica(retry_after=self._backoff_left(mono))
            if self._closed:
                raise TokenUnavailableError(f"The token cache for {self.name} is closed")
            if (hanging := self._hanging(mono)) >= MOST_ABANDONED:
                raise self._hung(
                    f"{hanging} requests for a token for {self.name} hang", self.deadline
                )
            flight = self._begin(mono)
        self._start(flight)
        return flight

    def renew_if_used(self) -> None:
        """Refresh if that is due and the token was used since the last success; for the timer."""
        with self._lock:
            mono = self._monotonic()
            idle = not self.used or self._flight is not None
            if idle or self._closed or self._hanging(mono) >= MOST_ABANDONED:
                return
            delay = self._next_in()
            if delay is None:
                return
            if delay > _SHORTEST_TIMER:
                self._arm()
                return
            flight = self._begin(mono)
        self._start(flight)

    def _begin(self, mono: float) -> _Flight:
        """Create a flight, under the lock."""
        flight: _Flight = SingleFlight(mono + self.deadline)
        flight.timer = self._scheduler.call_later(self.deadline, lambda: self._abandon(flight))
        self._flight = flight
        self._disarm()
        return flight

    def _start(self, flight: _Flight) -> None:
        try:
            self._launch(f"lightspeed-azure-token-{self.name}", lambda: self._run(flight))
        except Exception as error:  # noqa: BLE001 - a failure like any other; callers wait for it
            failure = _unnamed(error, "A request for a token could not be started")
            self._finish(flight, failure, (0.0, 0.0), None)

    def _run(self, flight: _Flight) -> None:
        """Ask the source, on the flight's own thread."""
        fingerprint = _fingerprint_of(self._source)
        sent = self._now()
        # A little less than the waiters have, so that the source's own error reaches them.
        left = flight.deadline - sent[1] - min(0.5, self.deadline / 10)
        previous = None if self._latest is None else self._latest.secret
        outcome = _ask(self._source, Attempt(max(0.0, left), sent[0], previous), self.name)
        self._finish(flight, outcome, sent, fingerprint)

    def _finish(
        self,
        flight: _Flight,
        outcome: IssuedToken | TokenError,
        sent: Moment,
        fingerprint: object,
    ) -> None:
        """Take the source's answer, and release the waiters."""
        finished = [flight]
        line: _Line | None = None
        with self._lock:
            live = flight is self._flight
            if not live and flight not in self._abandoned:
                return  # it belongs to the process that this one was forked from
            self._abandoned.pop(flight, None)
            if live:
                self._flight = None
            error = outcome if isinstance(outcome, TokenError) else None
            if isinstance(outcome, IssuedToken):
                error, line = self._take(outcome, sent, live=live)
            if error is not None and live:
                line = self._fail(error, fingerprint)
            elif error is None and self._flight is not None:
                # Callers that wait for the live flight have their token now.
                finished.append(self._flight)
                self._write_off(self._flight)
                self._flight = None
            self._arm()
        for each in finished:
            each.finish(error)
        if line is not None:
            line()

    def _abandon(self, flight: _Flight) -> None:
        """Release the waiters of a flight at its deadline; its result may still come."""
        with self._lock:
            if flight is not self._flight:
                return
            self._flight = None
            self._write_off(flight)
            error = self._no_answer()
            line = self._fail(error, None)
            self._arm()
        flight.finish(error)
        if line is not None:
            log_in_background(line)  # this may be the timer thread, which serves all caches

    def _hanging(self, mono: float) -> int:
        """Return how many abandoned flights count at this moment."""
        return sum(mono < until for until in self._abandoned.values())

    def _write_off(self, flight: _Flight) -> None:
        """Let an abandoned flight count for a while; its result may still come."""
        seconds = longer_each_time(FIRST_WRITE_OFF, len(self._abandoned), LONGEST_WRITE_OFF)
        self._abandoned[flight] = self._monotonic() + seconds

    def _no_answer(self) -> TokenError:
        return self._hung(f"No answer about a token for {self.name} within {self.deadline:g} s")

    def _hung(self, text: str, retry_after: float | None = None) -> TokenError:
        what, cure = self._hang() or ("", _CHECK_THE_NETWORK)
        text = f"{text}: {what}" if what else text
        return TokenUnavailableError(text, cure=cure, retry_after=retry_after)

    # -- the timer ---------------------------------------------------------------------------

    def _next_in(self) -> float | None:
        """Return the seconds until the next attempt is due and allowed, or None when none is."""
        wall, mono = self._now()
        if self.current is None:
            return None if self._error is None else self._backoff_left(mono)
        return max(self.current.due_in(wall, mono), self._backoff_left(mono))

    def _arm(self) -> None:
        """Schedule the next refresh, under the lock; it runs if the token is used by then."""
        self._disarm()
        if self._closed or self._flight is not None:
            return
        if self._hanging(self._monotonic()) >= MOST_ABANDONED:
            return  # the next caller after a write-off starts a flight
        delay = self._next_in()
        if delay is not None:
            self._timer = self._scheduler.call_later(max(delay, _SHORTEST_TIMER), self._on_timer)

    def _disarm(self) -> None:
        """Cancel the next refresh, under the lock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> Moment:
        return self._wall(), self._monotonic()

    # -- successes, under the lock -----------------------------------------------------------

    def _take(
        self, issued: IssuedToken, sent: Moment, *, live: bool
    ) -> tuple[TokenError | None, _Line | None]:
        """Cache an issued token if it is of use; return the error if not, and the log line."""
        now = self._now()
        number = self._issued + 1
        new = cached_token(issued, sent=sent, now=now, number=number, random=self._random)
        arrival: Arrival = "useless"
        if live or self._is_better(new, now):
            arrival = self._receive(new, now)
        cached = self.current
        if cached is None or arrival == "useless":
            text = f"The token for {self.name} had expired when it arrived"
            return TokenUnavailableError(text, cure="Check this machine's clock"), None
        self._last_success = now[0]
        self._error, self._failed_in_a_row, self._backoff_until = None, 0, -math.inf
        return None, self._success_line(arrival, cached, now)

    def _receive(self, new: CachedToken, now: Moment) -> Arrival:
        """Cache a token, or keep what is better; return which."""
        cached, rejected = self.current, self._rejected
        kept: CachedToken | None = None
        arrival: Arrival = "unchanged"
        if cached is not None and _equal(cached.token.secret, new.token.secret):
            kept = returned_again(cached, new, now)
        elif cached is None and rejected and _equal(rejected.token.secret, new.token.secret):
            # The source insists on it: use it, and ask again after a longer time each time.
            pause = longer_each_time(least_pause(rejected), self._returned, LONGEST_RETURNED_PAUSE)
            kept, arrival = returned_again(rejected, new, now, pause=pause), "returned"
            self._returned += 1
            self._returned_until = now[1] + pause
        elif cached is not None and _outlives(cached, new, now):
            kept = cached.kept(max(least_pause(cached), cached.remaining(*now) / 2), *now)
        elif new.usable_for(*now) > 0:
            kept, arrival = new, "renewed"
            self._rejected, self._returned, self._returned_until = None, 0, -math.inf
        if kept is None:
            return "useless"
        if kept.token is not self._latest:
            self._issued += 1
        self.current, self._latest, self.used = kept, kept.token, False
        return arrival

    def _is_better(self, new: CachedToken, now: Moment) -> bool:
        """Return whether a late result is a token that was not rejected and that lasts longer."""
        rejected = self._rejected
        if rejected is not None and _equal(rejected.token.secret, new.token.secret):
            return False
        left = 0.0 if self.current is None else self.current.usable_for(*now)
        return new.usable_for(*now) > left

    def _success_line(self, arrival: Arrival, cached: CachedToken, now: Moment) -> _Line:
        recovered = " after failures" if self._logged_level > logging.INFO else ""
        self._logged_level = logging.INFO
        remaining, due = cached.remaining(*now), cached.due_in(*now)
        if arrival == "returned":
            return lambda: self._logger.warning(
                "Token for %s was rejected, and the source gives back the same one; it is used "
                "on, and the source asked again in %.0f s",
                self.name,
                due,
            )
        return lambda: self._logger.info(
            "Token for %s %s%s: expires in %.0f s, renewal due in %.0f s",
            self.name,
            arrival,
            recovered,
            remaining,
            due,
        )

    # -- failures ----------------------------------------------------------------------------

    def _backing_off(self, mono: float) -> bool:
        """Return whether it is too early to ask again.

        The back-off of a permanent failure ends as soon as the credential's files have changed.
        They are compared at most once a second.
        """
        error = self._error
        if error is None or mono >= self._backoff_until:
            return False
        if error.permanent and mono - self._fingerprint_at >= _FINGERPRINT_INTERVAL:
            self._fingerprint_at = mono
            if _fingerprint_of(self._source) != self._fingerprint:
                self._backoff_until = mono
                return False
        return True

    def _backoff_left(self, mono: float) -> float:
        return max(0.0, self._backoff_until - mono)

    def _fail(self, error: TokenError, fingerprint: object) -> _Line | None:
        """Note a failed attempt, under the lock; return the log line, if it deserves one."""
        now = self._now()
        cached = self.current
        usable_for = 0.0 if cached is None else cached.usable_for(*now)
        if not usable_for:
            self.used = False
        self._failures += 1
        self._failed_in_a_row += 1
        self._error = self._last_error = error
        self._fingerprint, self._fingerprint_at = fingerprint, -math.inf
        self._backoff_until = now[1] + backoff_pause(
            error, self._failed_in_a_row, usable_for=usable_for, random=self._random
        )
        return self._failure_line(error, cached if usable_for else None, now)

    def _failure_line(
        self, error: TokenError, usable: CachedToken | None, now: Moment
    ) -> _Line | None:
        """Return a warning when failures begin, an error when the end is near, else nothing.

        The end is near REFRESH_MARGIN before the expiry of a token that lives longer than that. For
        other tokens it is near when they are no longer usable.
        """
        remaining = 0.0 if usable is None else max(0.0, usable.remaining(*now))
        long_lived = usable is not None and usable.token.lifetime > REFRESH_MARGIN
        near = usable is None or (long_lived and remaining < REFRESH_MARGIN)
        level = logging.ERROR if near else logging.WARNING
        if level <= self._logged_level:
            return None
        self._logged_level = level
        kind = type(error).__name__
        if usable is None:
            return lambda: self._logger.log(
                level, "No token for %s (%s: %s)", self.name, kind, error
            )
        return lambda: self._logger.log(
            level,
            "Token for %s cannot be renewed (%s: %s); the current one expires in %.0f s",
            self.name,
            kind,
            error,
            remaining,
        )


class TokenView[T]:
    """A value made from a cache's token, such as a header; made once for each token.

    Safe for use by any number of threads and event loops at once. `TokenCache.view` creates one.
    """

    __slots__ = ("_cache", "_last", "_made", "_make", "_monotonic", "_wall")

    def __init__(
        self,
        cache: TokenCache,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        make: Callable[[Token], T],
    ) -> None:
        self._cache = cache
        self._wall = wall
        self._monotonic = monotonic
        self._make = make
        # Each is replaced as a whole, so that a reader without a lock sees what belongs together.
        self._last: tuple[CachedToken | None, T | None] = None, None
        self._made: tuple[Token, T] | None = None

    def get(self) -> T:
        """Return the value for a valid token; waits and raises as `TokenCache.get` does."""
        cached, value = self._last
        cache = self._cache
        if (
            cached is not None
            and cached is cache.current
            and self._wall() < cached.gate_wall
            and self._monotonic() < cached.gate_mono
        ):
            cache.used = True
            return value  # type: ignore[return-value]  # made together with `cached`
        return self.of(cache.get())

    async def aget(self) -> T:
        """Do what `get` does without blocking the event loop."""
        cached, value = self._last
        cache = self._cache
        if (
            cached is not None
            and cached is cache.current
            and self._wall() < cached.gate_wall
            and self._monotonic() < cached.gate_mono
        ):
            cache.used = True
            return value  # type: ignore[return-value]  # made together with `cached`
        return self.of(await cache.aget())

    def of(self, token: Token) -> T:
        """Return the value for a token of the cache."""
        made = self._made
        if made is None or made[0] is not token:
            made = self._made = token, self._make(token)
        cached = self._cache.current
        if cached is not None and cached.token is token:
            self._last = cached, made[1]
        return made[1]


def _weakly(cache: TokenCache) -> Callable[[], None]:
    """Return the timer's callback, which does not keep an unused cache alive."""
    reference = weakref.ref(cache)

    def renew() -> None:
        there = reference()
        if there is not None:
            there.renew_if_used()

    return renew


def _ask(source: TokenSource, attempt: Attempt, name: str) -> IssuedToken | TokenError:
    """Ask the source; an exception of any kind becomes an error that is safe to show."""
    try:
        issued = source(attempt)
        # Every field is read here, where a mistake is still the source's.
        if not issued.secret.get_secret_value():
            return TokenUnavailableError(f"The source of the token for {name} gave an empty one")
        refresh_in = None if issued.refresh_in is None else float(issued.refresh_in)
        return IssuedToken(issued.secret, float(issued.expires_in), refresh_in)
    except TokenError as error:
        try:
            return error.replica()  # without frames and causes
        except Exception as broken:  # noqa: BLE001 - a foreign subclass with another constructor
            return _unnamed(broken, f"{type(error).__name__} cannot be passed on")
    except InvalidConfigurationError as error:
        return CredentialRejectedError(str(error))  # its text is ours, and contains no secret
    except BaseException as error:  # noqa: BLE001 - callers wait for an answer
        return _unnamed(error, f"The source of the token for {name} broke down")


def _unnamed(error: BaseException, text: str) -> TokenError:
    """Return an error that names only the class: a foreign message may contain a secret."""
    return TokenUnavailableError(f"{text} ({type(error).__name__})")


def _fingerprint_of(source: TokenSource) -> object:
    """Return the source's fingerprint, or None when it cannot tell."""
    try:
        return source.fingerprint()
    except Exception:  # noqa: BLE001 - a credential that cannot be looked at has not changed
        return None


def _outlives(cached: CachedToken, new: CachedToken, now: Moment) -> bool:
    """Return whether the cached token lasts longer than a new one with less than REFRESH_MARGIN."""
    return 0 < new.usable_for(*now) < min(cached.usable_for(*now), REFRESH_MARGIN)


def _equal(one: SecretStr, other: SecretStr | str) -> bool:
    """Compare in constant time."""
    text = other if isinstance(other, str) else other.get_secret_value()
    return hmac.compare_digest(
        one.get_secret_value().encode(errors="surrogatepass"),
        text.encode(errors="surrogatepass"),
    )
