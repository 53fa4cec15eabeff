"""One registered resolver: asked within its limits, once for all who ask the same."""

import contextvars
import functools
import logging
from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.concurrency.threads import log_in_background
from lightspeed_azure.config.credential_resolver import (
    CredentialResolverConfiguration,
    OnError,
)
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.answer_cache import Answers
from lightspeed_azure.keys.breaker import Breaker, BreakerState
from lightspeed_azure.keys.hook_call import (
    PASS,
    RESTING,
    Answer,
    Check,
    Fault,
    Outcome,
    Pass,
    Question,
    Reply,
    of_exception,
    reply_of,
    timeout,
)
from lightspeed_azure.keys.runner import Collaborators, Flight, Runner

CREDENTIAL_FUNCTIONS = frozenset({"get_api_key", "resolve_credential"})
"""Where a resolver steps in when nothing else is said."""

_STALE = 3600.0
"""Seconds that a kept answer stands in for a failing resolver, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one registered resolver.

    Attributes:
        name: what it is called in messages, metrics and `resolver=`.
        order: resolvers are asked in ascending order; equal ones in that of their registration.
        timeout: seconds that one answer may take.
        on_error: `fallback` goes on as if it had passed, `fail` raises.
        ttl: seconds for which an answer is given again; 0 asks each time.
        stale_if_error: seconds after those for which it stands in while the resolver fails; None
            means an hour where `ttl` keeps answers at all.
        failures: how many failures in a row make it rest.
        rest: seconds that it is left alone then.
        functions: into which functions it steps.
        source: where it was registered: "run time", "configuration" or "entry point".
    """

    name: str
    order: int = 0
    timeout: float = 5.0
    on_error: OnError = "fallback"
    ttl: float = 0.0
    stale_if_error: float | None = None
    failures: int = 3
    rest: float = 30.0
    functions: frozenset[str] = CREDENTIAL_FUNCTIONS
    source: str = "run time"

    def __post_init__(self) -> None:
        problems = [
            f"credential resolver {self.name!r}: {key} must be {what}"
            for key, what, good in (
                ("timeout", "more than 0 and at most 600 seconds", 0 < self.timeout <= 600),
                ("ttl", "0 to 86400 seconds", 0 <= self.ttl <= 86400),
                ("rest", "0 to 86400 seconds", 0 <= self.rest <= 86400),
                ("failures", "1 or more", self.failures >= 1),
                ("on_error", "fallback or fail", self.on_error in ("fallback", "fail")),
            )
            if not good
        ]
        if problems:
            raise InvalidConfigurationError(*problems)

    @classmethod
    def of(cls, block: CredentialResolverConfiguration) -> Self:
        """Return the settings that an operator wrote."""
        return cls(
            name=block.name,
            order=block.order,
            timeout=block.timeout,
            on_error=block.on_error,
            ttl=block.seconds_to_keep,
            stale_if_error=block.stale_if_error,
            failures=block.failures,
            rest=block.rest,
            source="configuration",
        )

    @property
    def stale(self) -> float:
        """Seconds that a kept answer stands in for a failing resolver."""
        if self.stale_if_error is not None:
            return self.stale_if_error
        return _STALE

    def over(self, resolver: object, given: Mapping[str, Any]) -> Self:
        """Return these, with the resolver's own attributes as defaults, and what was given over them."""
        own = {
            name: value
            for name in _OWN
            if isinstance(value := getattr(resolver, name, None), int | float | str)
        }
        return replace(self, **{**own, **given})


_OWN = tuple(
    field.name for field in fields(Settings) if field.name not in ("name", "functions", "source")
)


@dataclass(frozen=True, slots=True)
class ResolverStatus:
    """What became of the questions to one resolver.

    Attributes:
        name: the resolver's name.
        source: "run time", "configuration" or "entry point".
        order: its place among the others.
        answers: how often it answered, from what was kept or not.
        passes: how often it passed, or asked on with other arguments.
        cached: how many of these needed no asking.
        stale: how many answers stood in for a failure.
        failures: how often it gave nothing that can be used.
        rested: how often it was not asked, because it had failed before.
        breaker: "closed" when it is asked, "open" while it rests, "half_open" while it is tried.
        last_error: the last failure's kind, such as "timeout"; "" when it answered since.
        last_error_text: the same in words.
        last_pass: where it looked when it passed last; "" when it did not say, or has answered since.
        kept: how many answers are kept.
        oldest_kept: seconds since the oldest of them was asked for; None without one.
        hanging: threads and event loops of its that did not come back.
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
class Counts:
    """The counters behind a snapshot; changed under their owner's lock."""

    answers: int = 0
    passes: int = 0
    cached: int = 0
    stale: int = 0
    failures: int = 0
    rested: int = 0
    last: Fault | None = None
    last_pass: str = ""

    def said(self, reply: Reply) -> None:
        """Count what a caller got."""
        if isinstance(reply, Fault):
            self.rested += reply is RESTING
        elif isinstance(reply, Answer):
            self.answers += 1
            self.last_pass = ""
        else:
            self.passes += 1
            self.last_pass = reply.why if isinstance(reply, Pass) else ""

    def settled(self, reply: Reply) -> bool:
        """Count what became of one asking; return whether its state changed by it."""
        before = self.last
        if isinstance(reply, Fault):
            self.failures += 1
            self.last = reply
            return before is None or before.reason != reply.reason
        self.last = None
        return before is not None


_LOG = logging.getLogger("lightspeed_azure.keys")

_INSIDE: contextvars.ContextVar[frozenset[object]] = contextvars.ContextVar(
    "lightspeed_azure_inside", default=frozenset()
)
"""The resolvers for which this code runs: what one asks itself passes it by."""

type Line = Callable[[], None]
"""Writes log lines; called when no lock is held, because a log handler may block."""


def nothing() -> None:
    """Write no line."""


type Asking = Generator[Flight, None, Reply]
"""Yields what is to be waited for, and returns what was said."""


class Registration:
    """A resolver and what surrounds it; safe for any number of threads and event loops.

    Args:
        settings: its name and limits.
        load: returns the resolver; called on a thread of its own when it is first asked.
        with_: clock, scheduler and threads.
    """

    def __init__(
        self, settings: Settings, load: Callable[[], object], with_: Collaborators
    ) -> None:
        self.settings = settings
        self.runner = Runner(settings.name, load, with_)
        self._with = with_
        self._answers = Answers(
            ttl=settings.ttl,
            stale_if_error=settings.stale,
            keep_all=settings.stale_if_error is not None,
        )
        self._counts = Counts()
        self._lock = ForkLock()  # guards the answers, the counts and what `_begin` sets
        self._begin()

    def __repr__(self) -> str:
        return f"<credential resolver {self.settings.name!r}, {self.settings.source}>"

    def _begin(self) -> None:
        settings = self.settings
        self._breakers = {
            step: Breaker(failures=settings.failures, rest=settings.rest)
            for step in ("before", "after")
        }
        self._flights: dict[Hashable, Flight] = {}

    def after_fork(self) -> None:
        """Drop the parent's threads, flights and resolver in a forked child; keep the answers."""
        self._begin()
        self.runner.reset()

    def close(self) -> None:
        """End its event loop, and forget its answers."""
        self.runner.close()
        with self._lock:
            self._answers.clear()

    def doubt(self, value: object) -> None:
        """Ask again instead of giving this value, which a provider refused."""
        with self._lock:
            self._answers.doubt(value, self._now())

    def before(self, question: Question, check: Check | None) -> Asking:
        """Ask before the function."""
        if self._is_passed_by("before"):
            return PASS
        key = question.key
        with self._lock:
            kept = self._answers.fresh(key, self._now()) if key is not None else None
            if kept is not None:
                self._counts.cached += 1
                self._counts.said(kept.said)
                return kept.said
            boarded = self._board("before", question, None, check)
        if isinstance(boarded, Flight):
            yield boarded
            return self._said(boarded.reply, key)
        return self._said(boarded, key)

    def after(self, question: Question, outcome: Outcome, check: Check | None) -> Asking:
        """Ask after the function; nothing is kept."""
        if self._is_passed_by("after"):
            return PASS
        boarded = self._board("after", question, outcome, check)
        if isinstance(boarded, Flight):
            yield boarded
            return self._said(boarded.reply, None)
        return self._said(boarded, None)

    def status(self) -> ResolverStatus:
        """Return a snapshot, which holds no key."""
        with self._lock:
            counts, last = self._counts, self._counts.last
            states = {breaker.state for breaker in self._breakers.values()}
            return ResolverStatus(
                name=self.settings.name,
                source=self.settings.source,
                order=self.settings.order,
                answers=counts.answers,
                passes=counts.passes,
                cached=counts.cached,
                stale=counts.stale,
                failures=counts.failures,
                rested=counts.rested,
                breaker=max(states, key=("closed", "half_open", "open").index),
                last_error=last.reason if last else "",
                last_error_text=last.text if last else "",
                last_pass=counts.last_pass,
                kept=len(self._answers),
                oldest_kept=self._answers.oldest(self._now()),
                hanging=self.runner.hanging,
            )

    def _now(self) -> float:
        return self._with.clock.monotonic()

    def _is_passed_by(self, step: str) -> bool:
        if step == "after" and not self.runner.is_loaded and self._counts.last is not None:
            return True  # it could not be loaded before the function: one time limit is enough
        return not self.runner.has(step) or self in _INSIDE.get()

    def _said(self, reply: Reply, key: Hashable | None) -> Reply:
        """Count a reply; for a fault, return what was said before, where that may stand in."""
        with self._lock:
            if isinstance(reply, Fault) and key is not None:
                kept = self._answers.stale(key, self._now())
                if kept is not None:
                    self._counts.stale += 1
                    reply = kept.said
            self._counts.said(reply)
            return reply

    # -- flights -----------------------------------------------------------------------------

    def _board(
        self, step: str, question: Question, outcome: Outcome | None, check: Check | None
    ) -> Flight | Fault:
        """Return the flight to wait for, or that there is none, or none worth waiting for."""
        with self._lock:
            key = question.key if step == "before" else None
            breaker = self._breakers[step]
            flight = self._flights.get(key) if key is not None else None
            refused = self._answers.refused(key, self._now()) if key is not None else None
            if flight is None and refused is not None:
                return refused
            if flight is None:
                admitted = breaker.admits(self._now())
                if admitted is None:
                    return RESTING
                if admitted == "probe":
                    breaker.begin_probe()
                flight = self._depart(step, question, outcome, check)
            # A probe is for those who come after; only who has nothing else waits for it.
            return RESTING if breaker.state != "closed" and self._spares(key) else flight

    def _spares(self, key: Hashable | None) -> bool:
        """Return whether the callers can do without an answer."""
        if self.settings.on_error == "fallback":
            return True
        return key is not None and self._answers.stale(key, self._now()) is not None

    def _depart(
        self, step: str, question: Question, outcome: Outcome | None, check: Check | None
    ) -> Flight:
        settings, now = self.settings, self._now()
        key = question.key if step == "before" else None
        flight = Flight(asked_at=now, deadline=now + settings.timeout)
        if key is not None:
            self._flights[key] = flight
        arrive = functools.partial(self._arrive, flight, step, key)
        question = question.within(settings.timeout)

        def done(returned: Any) -> None:
            try:
                reply = reply_of(returned, question, check, asks=step == "before")
            except Exception as error:  # noqa: BLE001 - of an object that is not what it seems
                reply = of_exception(error)
            arrive(reply)()

        def expire() -> None:  # on the timer thread, which serves everything else, too
            lines = arrive(timeout(settings.timeout))
            self.runner.give_up(flight)
            if lines is not nothing:
                log_in_background(lines)

        flight.timer = self._with.scheduler.call_later(settings.timeout, expire)
        context = contextvars.copy_context()
        context.run(_INSIDE.set, _INSIDE.get() | {self})
        arguments = (question,) if outcome is None else (question, outcome)
        try:
            self.runner.run(flight, step, arguments, context, done)
        except RuntimeError:
            arrive(Fault("no_thread", "cannot be asked: there are too many threads", down=True))()
        return flight

    def _arrive(self, flight: Flight, step: str, key: Hashable | None, reply: Reply) -> Line:
        """Take in the result of a flight, wake its waiters, and return what to log afterwards.

        A result that comes after the deadline is kept, too, unless there is a newer one.
        """
        with self._lock:
            if key is not None and not isinstance(reply, Fault):
                self._answers.keep(key, reply, flight.asked_at)
            if flight.done:
                return nothing
            if key is not None and self._flights.get(key) is flight:
                del self._flights[key]
            changed = self._counts.settled(reply)
            breaker, opened = self._breakers[step], False
            if isinstance(reply, Fault) and reply.down:
                opened = breaker.failed(self._now(), reply.retry_after)
            else:
                if isinstance(reply, Fault) and reply.retry_after and key is not None:
                    self._answers.refuse(key, reply, self._now() + reply.retry_after)
                breaker.succeeded()
        flight.finish(reply)
        if not changed and not opened:
            return nothing
        return functools.partial(self._tell, reply, changed=changed, opened=opened)

    def _tell(self, reply: Reply, *, changed: bool, opened: bool) -> None:
        """Log a change of state, once."""
        name = self.settings.name
        if isinstance(reply, Fault):
            if changed:
                _LOG.warning("Credential resolver %s %s", name, reply.text)
            if opened:
                _LOG.warning("Credential resolver %s is left alone for a while", name)
        elif changed:
            _LOG.info("Credential resolver %s answers again", name)
