"""One registered resolver: called within its limits, once for all callers that need the same."""

import contextvars
import functools
import logging
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.concurrency.threads import log_in_background
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler
from lightspeed_azure.config.credential_resolver import ResolverSettings
from lightspeed_azure.keys.answer_cache import AnswerCache
from lightspeed_azure.keys.breaker import Breaker, BreakerState
from lightspeed_azure.keys.hook_call import (
    BREAKER_OPEN,
    PASS,
    Answer,
    Check,
    HookCall,
    Outcome,
    Pass,
    ResolverError,
    Result,
    error_of,
    result_of,
    timed_out,
)
from lightspeed_azure.keys.runner import Runner

_logger = logging.getLogger("lightspeed_azure.keys")

CREDENTIAL_FUNCTIONS = frozenset({"get_api_key", "resolve_credential"})
"""The functions that a resolver is called for by default."""

GRACE = 1.0
"""Seconds after the deadline for which a waiter relies on the timer."""

_INSIDE: contextvars.ContextVar[frozenset[object]] = contextvars.ContextVar(
    "lightspeed_azure_inside", default=frozenset()
)
"""The resolvers that are running here: one that needs a key itself is skipped for it."""


class Wait(NamedTuple):
    """What a caller waits for, and for how many seconds at most."""

    flight: SingleFlight[Result]
    seconds: float


type Asking = Generator[Wait, None, Result]
"""Yields what to wait for, and returns the result."""


@dataclass(frozen=True, slots=True)
class ResolverStatus:
    """A snapshot of one resolver; it contains no key.

    Attributes:
        name: the resolver's name.
        source: "run time", "configuration" or "entry point".
        order: its place among the others.
        answers: how often it answered, from the cache or not.
        passes: how often it passed or rewrote the call.
        cached: how many of these came from the cache.
        stale: how many of these were stale and replaced an error.
        failures: how often it had no usable result.
        rested: how often it was not asked, because its breaker was open.
        breaker: "closed", "open" (it is not asked) or "half_open" (one call probes it).
        last_error: the reason of the last failure, such as "timeout"; "" after a success.
        last_error_text: the failure in words.
        last_pass: the reason of the last pass; "" after an answer.
        kept: how many results are cached.
        oldest_kept: age of the oldest of them in seconds; None without one.
        hanging: its threads and event loops that did not return in time and still run.
    """

    name: str
    source: str
    order: int
    answers: int
    passes: int
    cached: int
    stale: int
    failures: int
    rested: int
    breaker: BreakerState
    last_error: str
    last_error_text: str
    last_pass: str
    kept: int
    oldest_kept: float | None
    hanging: int


@dataclass(slots=True)
class _Counts:
    """The counters behind a snapshot; changed under their owner's lock."""

    answers: int = 0
    passes: int = 0
    cached: int = 0
    stale: int = 0
    failures: int = 0
    rested: int = 0
    error: ResolverError | None = None
    last_pass: str = ""

    def returned(self, result: Result) -> None:
        """Count what a caller got."""
        if isinstance(result, ResolverError):
            self.rested += result is BREAKER_OPEN
        elif isinstance(result, Answer):
            self.answers += 1
            self.last_pass = ""
        else:
            self.passes += 1
            self.last_pass = result.why if isinstance(result, Pass) else ""

    def finished(self, result: Result) -> bool:
        """Count the end of one flight; return whether the resolver's state changed."""
        before = self.error
        if isinstance(result, ResolverError):
            self.failures += 1
            self.error = result
            return before is None or before.reason != result.reason
        self.error = None
        return before is not None


class Resolver:
    """A resolver with its cache, breakers and time limit. Safe for any number of threads and loops.

    Args:
        name: what it is called in messages, metrics and `resolver=`.
        load: returns the resolver; called on a worker thread at the first call.
        settings: its limits.
        functions: the functions that it is called for.
        source: where it was registered: "run time", "configuration" or "entry point".
        clock: tells the time.
        scheduler: makes the calls at the deadlines.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], object],
        settings: ResolverSettings,
        *,
        functions: frozenset[str] = CREDENTIAL_FUNCTIONS,
        source: str = "run time",
        clock: Clock = SYSTEM_CLOCK,
        scheduler: Scheduler = TIMER_THREAD,
    ) -> None:
        self.name = name
        self.settings = settings
        self.functions = functions
        self.source = source
        self.runner = Runner(name, load)
        self._clock = clock
        self._scheduler = scheduler
        self._cache = AnswerCache(
            ttl=settings.seconds_to_keep,
            stale_if_error=settings.seconds_of_stale,
            keep_all=settings.stale_if_error is not None,
        )
        self._counts = _Counts()
        self._lock = ForkLock()  # guards the cache, the counts, the breakers and the flights
        self._begin()

    def __repr__(self) -> str:
        return f"<credential resolver {self.name!r}, {self.source}>"

    def _begin(self) -> None:
        settings = self.settings
        self._breakers = {
            step: Breaker(failures=settings.failures, rest=settings.rest)
            for step in ("before", "after")
        }
        self._flights: dict[Hashable, SingleFlight[Result]] = {}

    def after_fork(self) -> None:
        """Drop the parent's threads, flights and resolver in a forked child; keep the cache."""
        self._begin()
        self.runner.reset()

    def close(self) -> None:
        """End the event loop, and clear the cache."""
        self.runner.close()
        with self._lock:
            self._cache.clear()

    def invalidate(self, value: object) -> None:
        """Ask again before this value, which a provider refused, is used."""
        with self._lock:
            self._cache.invalidate(value, self._clock.monotonic())

    def ask(self, call: HookCall, check: Check | None, outcome: Outcome | None = None) -> Asking:
        """Ask before the function or, with an outcome, after it; the latter is never cached."""
        step = "before" if outcome is None else "after"
        if self._is_skipped(step):
            return PASS
        key = call.key if outcome is None else None
        with self._lock:
            fresh = self._cache.fresh(key, self._clock.monotonic()) if key is not None else None
            if fresh is not None:
                self._counts.cached += 1
                self._counts.returned(fresh)
                return fresh
            joined = self._join(step, key, call, outcome, check)
        result: Result
        if isinstance(joined, ResolverError):
            result = joined
        else:
            yield Wait(joined, self.settings.timeout + GRACE)
            result = joined.result or _NO_RESULT
        with self._lock:
            if isinstance(result, ResolverError) and (stale := self._stale(key)) is not None:
                self._counts.stale += 1
                result = stale
            self._counts.returned(result)
            return result

    def status(self) -> ResolverStatus:
        """Return a snapshot without keys."""
        with self._lock:
            counts, error = self._counts, self._counts.error
            states = {breaker.state for breaker in self._breakers.values()}
            return ResolverStatus(
                name=self.name,
                source=self.source,
                order=self.settings.order,
                answers=counts.answers,
                passes=counts.passes,
                cached=counts.cached,
                stale=counts.stale,
                failures=counts.failures,
                rested=counts.rested,
                breaker=max(states, key=("closed", "half_open", "open").index),
                last_error=error.reason if error else "",
                last_error_text=error.text if error else "",
                last_pass=counts.last_pass,
                kept=len(self._cache),
                oldest_kept=self._cache.oldest(self._clock.monotonic()),
                hanging=self.runner.hanging,
            )

    def _is_skipped(self, step: str) -> bool:
        if step == "after" and not self.runner.is_loaded and self._counts.error is not None:
            return True  # loading failed before the function: one time limit is enough
        return not self.runner.has(step) or self in _INSIDE.get()

    def _stale(self, key: Hashable | None) -> Result | None:
        return None if key is None else self._cache.stale(key, self._clock.monotonic())

    # -- flights -----------------------------------------------------------------------------

    def _join(
        self,
        step: str,
        key: Hashable | None,
        call: HookCall,
        outcome: Outcome | None,
        check: Check | None,
    ) -> SingleFlight[Result] | ResolverError:
        """Return the flight to wait for, or why there is none; the lock is held."""
        now = self._clock.monotonic()
        breaker = self._breakers[step]
        flight = self._flights.get(key) if key is not None else None
        if flight is None:
            error = self._cache.error(key, now) if key is not None else None
            if error is not None:
                return error
            admitted = breaker.admits(now)
            if admitted is None:
                return BREAKER_OPEN
            if admitted == "probe":
                breaker.begin_probe()
            flight = self._start(step, key, call, outcome, check)
        # Only a caller that has no fallback waits for a probe.
        has_fallback = self.settings.on_error == "fallback" or self._stale(key) is not None
        return BREAKER_OPEN if breaker.state != "closed" and has_fallback else flight

    def _start(
        self,
        step: str,
        key: Hashable | None,
        call: HookCall,
        outcome: Outcome | None,
        check: Check | None,
    ) -> SingleFlight[Result]:
        timeout, now = self.settings.timeout, self._clock.monotonic()
        flight = SingleFlight[Result](now + timeout)
        if key is not None:
            self._flights[key] = flight
        finish = functools.partial(self._finish, flight, step, key, now)
        call = call.within(timeout)

        def done(returned: Any) -> None:
            try:
                result = result_of(returned, call, check, may_rewrite=outcome is None)
            except Exception as error:  # noqa: BLE001 - a foreign object may raise anything
                result = error_of(error)
            finish(result)()

        def expire() -> None:  # on the timer thread, which serves everything else too
            log = finish(timed_out(timeout))
            self.runner.abandon(flight)
            if log is not _log_nothing:
                log_in_background(log)

        flight.timer = self._scheduler.call_later(timeout, expire)
        context = contextvars.copy_context()
        context.run(_INSIDE.set, _INSIDE.get() | {self})
        arguments = (call,) if outcome is None else (call, outcome)
        try:
            self.runner.run(flight, step, arguments, context, done)
        except RuntimeError:
            finish(_NO_THREAD)()
        return flight

    def _finish(
        self,
        flight: SingleFlight[Result],
        step: str,
        key: Hashable | None,
        asked_at: float,
        result: Result,
    ) -> Callable[[], None]:
        """Store a result and wake the waiters; return what writes the log lines.

        The log lines are written later because a log handler may block. A result that comes after
        the deadline is cached too, unless there is a newer one.
        """
        with self._lock:
            if key is not None and not isinstance(result, ResolverError):
                self._cache.put(key, result, asked_at)
            if flight.done:
                return _log_nothing
            if key is not None and self._flights.get(key) is flight:
                del self._flights[key]
            changed = self._counts.finished(result)
            breaker, opened = self._breakers[step], False
            if isinstance(result, ResolverError) and result.down:
                opened = breaker.failed(self._clock.monotonic(), result.retry_after)
            else:
                if isinstance(result, ResolverError) and result.retry_after and key is not None:
                    until = self._clock.monotonic() + result.retry_after
                    self._cache.put_error(key, result, until)
                breaker.succeeded()
        flight.finish(result)
        if not changed and not opened:
            return _log_nothing
        return functools.partial(self._log, result, changed=changed, opened=opened)

    def _log(self, result: Result, *, changed: bool, opened: bool) -> None:
        """Log a change of state, once."""
        if not isinstance(result, ResolverError):
            _logger.info("Credential resolver %s answers again", self.name)
            return
        if changed:
            _logger.warning("Credential resolver %s %s", self.name, result.text)
        if opened:
            _logger.warning("Credential resolver %s is left alone for a while", self.name)


def _log_nothing() -> None:
    """Write no log line."""


_NO_RESULT = ResolverError("timeout", "did not answer in time", True)
_NO_THREAD = ResolverError("no_thread", "cannot be asked: there are too many threads", True)
