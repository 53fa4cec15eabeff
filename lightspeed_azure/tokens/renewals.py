"""When a token is renewed, by whom, and what becomes of the answer.

At most one live flight and two abandoned ones; an answer is taken in once. What is mutable changes
under one lock, never held over I/O, a log line or a call of anything foreign but the scheduler.
"""

from collections.abc import Callable

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.concurrency.threads import log_in_background
from lightspeed_azure.concurrency.timer import TimerHandle
from lightspeed_azure.errors import TokenError, TokenUnavailableError
from lightspeed_azure.tokens.backoff import Backoff, fingerprint_of, pause_after
from lightspeed_azure.tokens.collaborators import Collaborators
from lightspeed_azure.tokens.flight import Flight
from lightspeed_azure.tokens.holding import Holding
from lightspeed_azure.tokens.lifetime import Held
from lightspeed_azure.tokens.outcome import hanging, outcome_of, outcome_of_launch, overdue
from lightspeed_azure.tokens.renewal_log import Line, RenewalLog, nothing
from lightspeed_azure.tokens.source import Attempt, IssuedToken

MOST_ABANDONED = 2
"""Flights that may hang past their deadline before no more are started: each holds a thread."""

FIRST_WRITE_OFF = 60.0
"""Seconds after which an abandoned flight no longer counts; twice as long for each that hangs."""

LONGEST_WRITE_OFF = 3600.0
"""Seconds: the longest of these, so that a cache recovers whatever a flight hangs on."""

_SHORTEST_TIMER = 0.05
"""Seconds: clocks disagree in their last digits, and a timer of nothing would spin."""


class Renewals:
    """The flights of one token cache, and what they bring.

    Args:
        with_: the collaborators.
        timer_callback: what the idle timer calls; it must not keep the cache alive.

    Attributes:
        holding: the token in hand.
        backoff: what failed last, and until when nobody asks again.
        flight: the one under way; read without the lock where a stale answer does no harm.
        lock: guards all of this.
        failures: how many attempts failed.
        waits: how many callers have had to wait for a token.
        last_success: POSIX seconds of the last good answer.
        last_error: of the last attempt that failed.
        closed: whether nothing is to be started any more.
    """

    flight: Flight | None
    _abandoned: dict[Flight, float]  # and the monotonic seconds until which it counts
    _timer: TimerHandle | None

    def __init__(self, with_: Collaborators, timer_callback: Callable[[], None]) -> None:
        self._with = with_
        self._timer_callback = timer_callback
        self._log = RenewalLog(with_.logger, with_.name)
        self.holding = Holding()
        self.backoff = Backoff(with_.source)
        self.failures = 0
        self.waits = 0
        self.last_success: float | None = None
        self.last_error: TokenError | None = None
        self.closed = False
        self.lock = ForkLock()
        self._begin_alone()

    def board(self, held: Held | None) -> Flight | None:
        """Return the flight under way or a new one; None when `held` is no longer what is held.

        Raises:
            TokenError: none runs, and none may be started now.
        """
        mono = self._with.clock.monotonic()
        resting = self.backoff.resting(mono)  # may look at files, so not under the lock
        with self.lock:
            if self.flight is not None:
                return self.flight
            if self.holding.held is not held:
                return None
            error = self.backoff.error
            if error is not None and resting and mono < self.backoff.until:
                raise error.replica(retry_after=self.backoff.ends_in(mono))
            if self.closed:
                raise TokenUnavailableError(f"The token cache for {self._with.name} is closed")
            if (hang := self._hanging(mono)) >= MOST_ABANDONED:
                raise hanging(self._with.name, hang, self._with.hang(), self._with.deadline)
            flight = self._take_off(mono)
        self._start(flight)
        return flight

    def renew_if_used(self) -> None:
        """Renew if that is due and the token was used since the last good answer; for the timer."""
        with self.lock:
            idle = not self.holding.used or self.flight is not None
            mono = self._with.clock.monotonic()
            if idle or self.closed or self._hanging(mono) >= MOST_ABANDONED:
                return
            delay = self.next_in()
            if delay is None:
                return
            if delay > _SHORTEST_TIMER:
                self.arm()
                return
            flight = self._take_off(mono)
        self._start(flight)

    def abandon(self, flight: Flight) -> None:
        """Let the waiters of a flight go that has reached its deadline; its answer may come yet."""
        with self.lock:
            if flight is not self.flight:
                return
            self.flight = None
            self._write_off(flight)
            error = self.no_answer()
            line = self._failed(error, None)
            self.arm()
        flight.settle(error)
        if line is not nothing:
            log_in_background(line)  # this may be the timer thread, which serves all caches

    def count_wait(self) -> None:
        """Count a caller who has to wait for a token."""
        with self.lock:
            self.waits += 1

    def no_answer(self) -> TokenError:
        """Return what a caller gets at the deadline."""
        return overdue(self._with.name, self._with.deadline, self._with.hang())

    def next_in(self) -> float | None:
        """Return the seconds until the next attempt is due and allowed, or None when none is."""
        mono, held = self._with.clock.monotonic(), self.holding.held
        if held is None:
            return None if self.backoff.error is None else self.backoff.ends_in(mono)
        return max(held.due_in(self._with.clock.wall(), mono), self.backoff.ends_in(mono))

    def arm(self) -> None:
        """Arrange the next renewal, under the lock; it takes place if the token is used by then."""
        self.disarm()
        if self.closed or self.flight is not None:
            return
        if self._hanging(self._with.clock.monotonic()) >= MOST_ABANDONED:
            return  # the next caller after a write-off starts a flight
        delay = self.next_in()
        if delay is not None:
            self._timer = self._with.scheduler.call_later(
                max(delay, _SHORTEST_TIMER), self._timer_callback
            )

    def disarm(self) -> None:
        """Call off the next renewal, under the lock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def after_fork(self) -> None:
        """Drop the parent's flights and timers in a forked child; keep the token."""
        self._begin_alone()
        self.holding.used = False
        if self.holding.held is not None:
            self.holding.held = self.holding.held.gated()  # the first reader arms the timer

    def _begin_alone(self) -> None:
        self.flight = None
        self._abandoned = {}
        self._timer = None

    def _hanging(self, mono: float) -> int:
        """Return how many abandoned flights count at this moment."""
        return sum(mono < until for until in self._abandoned.values())

    def _write_off(self, flight: Flight) -> None:
        """Let an abandoned flight count for a while; its answer may still come."""
        seconds = min(FIRST_WRITE_OFF * 2 ** min(len(self._abandoned), 16), LONGEST_WRITE_OFF)
        self._abandoned[flight] = self._with.clock.monotonic() + seconds

    def _take_off(self, mono: float) -> Flight:
        token = self.holding.latest
        flight = Flight(
            deadline=mono + self._with.deadline, previous=None if token is None else token.secret
        )
        flight.timer = self._with.scheduler.call_later(
            self._with.deadline, lambda: self.abandon(flight)
        )
        self.flight = flight
        self.disarm()
        return flight

    def _start(self, flight: Flight) -> None:
        name = f"lightspeed-azure-token-{self._with.name}"
        error = outcome_of_launch(lambda: self._with.launch(name, lambda: self._fly(flight)))
        if error is not None:
            self._land(flight, error, (0.0, 0.0), None)

    def _fly(self, flight: Flight) -> None:
        """Ask the source, on the flight's own thread."""
        fingerprint = fingerprint_of(self._with.source)
        sent = self._with.clock.wall(), self._with.clock.monotonic()
        # A little less than the waiters have, so that the source's own words reach them.
        left = flight.deadline - sent[1] - min(0.5, self._with.deadline / 10)
        attempt = Attempt(max(0.0, left), sent[0], flight.previous)
        outcome = outcome_of(self._with.source, attempt, self._with.name)
        self._land(flight, outcome, sent, fingerprint)

    def _land(
        self,
        flight: Flight,
        outcome: IssuedToken | TokenError,
        sent: tuple[float, float],
        fingerprint: object,
    ) -> None:
        """Take in what the source said, and let the waiters go."""
        settled = [flight]
        line: Line = nothing
        with self.lock:
            live = flight is self.flight
            if not live and flight not in self._abandoned:
                return  # of the process that this one was forked from
            flight.timer.cancel()
            self._abandoned.pop(flight, None)
            if live:
                self.flight = None
            error = outcome if isinstance(outcome, TokenError) else None
            if isinstance(outcome, IssuedToken):
                error, line = self._arrived(outcome, sent, live=live)
            if error is not None and live:
                line = self._failed(error, fingerprint)
            elif error is None and self.flight is not None:
                # Those who wait for the live flight have what they wait for.
                settled.append(self.flight)
                self._write_off(self.flight)
                self.flight = None
            self.arm()
        for each in settled:
            each.settle(error)
        line()

    def _arrived(
        self, issued: IssuedToken, sent: tuple[float, float], *, live: bool
    ) -> tuple[TokenError | None, Line]:
        now = self._with.clock.wall(), self._with.clock.monotonic()
        reception = self.holding.receive(
            issued, sent=sent, now=now, live=live, random=self._with.random
        )
        held = self.holding.held
        if held is None or reception == "useless":
            text = f"The token for {self._with.name} had expired when it arrived"
            return TokenUnavailableError(text, cure="Check this machine's clock"), nothing
        self.last_success = now[0]
        self.backoff.succeeded()
        return None, self._log.succeeded(reception, held, now)

    def _failed(self, error: TokenError, fingerprint: object) -> Line:
        now = self._with.clock.wall(), self._with.clock.monotonic()
        held = self.holding.held
        usable_for = 0.0 if held is None else held.usable_for(*now)
        if not usable_for:
            self.holding.used = False
        self.failures += 1
        self.last_error = error
        failures = self.backoff.failures + 1
        pause = pause_after(error, failures, usable_for=usable_for, random=self._with.random)
        self.backoff.failed(error, pause, now[1], fingerprint)
        return self._log.failed(error, held, now)
