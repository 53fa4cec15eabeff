"""Stand-ins for the token cache's collaborators: a clock, a scheduler, a source of tokens."""

import heapq
import itertools
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.errors import CredentialRejectedError, TokenUnavailableError
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.source import Attempt, IssuedToken

type Answer = IssuedToken | BaseException


class FakeClock:
    """Two clocks that stand still until told otherwise."""

    def __init__(self) -> None:
        self.wall_now = 1_700_000_000.0
        self.mono_now = 1_000.0

    def wall(self) -> float:
        """Return POSIX seconds."""
        return self.wall_now

    def monotonic(self) -> float:
        """Return seconds that only run forward."""
        return self.mono_now

    def step_wall(self, seconds: float) -> None:
        """Set the clock on the wall forward or back."""
        self.wall_now += seconds


def _nothing() -> None:
    """What a cancelled call does."""


class FakeTimer:
    """A call that has been arranged."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Call it off."""
        self.cancelled = True
        self.callback = _nothing


class FakeScheduler:
    """Makes its calls when the fake clock is moved past them, on the thread that moves it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        """Arrange a call."""
        timer = FakeTimer(self.clock.mono_now + delay, callback)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    @property
    def pending(self) -> list[FakeTimer]:
        """The calls that will be made."""
        return [timer for _, _, timer in self._heap if not timer.cancelled]

    def forget(self) -> None:
        """Be the scheduler of a forked process, which has no calls to make."""
        self._heap.clear()

    def to_next(self, most: float) -> float:
        """Return the seconds until the next call is due, or `most`."""
        dues = [timer.due - self.clock.mono_now for timer in self.pending]
        return max(0.0, min([most, *dues]))

    def advance(self, seconds: float) -> None:
        """Let both clocks run, making each call at its moment."""
        end = self.clock.mono_now + seconds
        while self._heap and self._heap[0][0] <= end:
            due, _, timer = heapq.heappop(self._heap)
            if timer.cancelled:
                continue
            self._run_to(due)
            timer.callback()
        self._run_to(end)

    def _run_to(self, mono: float) -> None:
        step = max(0.0, mono - self.clock.mono_now)
        self.clock.mono_now += step
        self.clock.wall_now += step


class Call:
    """One request that the source has received and not answered."""

    def __init__(self, attempt: Attempt, sent: float = 0.0) -> None:
        self.attempt = attempt
        self.sent = sent
        self.thread: threading.Thread | None = None
        self._answer: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def wait(self) -> Answer:
        """Wait for the answer, on the flight's thread."""
        return self._answer.get()

    def answer(self, answer: Answer) -> None:
        """Answer, and return when the cache has taken the answer in."""
        assert self.thread is not None
        self._answer.put(answer)
        self.thread.join()


class Stage:
    """A token cache with fake collaborators.

    Flights run on real threads, but each step is complete when the method that takes it returns.
    With `reply` set the source answers at once; without, requests collect in `calls`.
    """

    def __init__(self, reply: Callable[[Attempt], Answer] | None = None, **options: Any) -> None:
        self.reply = reply
        self.clock = FakeClock()
        self.scheduler = FakeScheduler(self.clock)
        self.calls: list[Call] = []
        self.attempts: list[Attempt] = []
        self.version: object = 1
        self.looks = 0
        self.chance = 0.0
        self._entered: queue.SimpleQueue[Call] = queue.SimpleQueue()
        options.setdefault("random", lambda: self.chance)
        options.setdefault("launch", self.launch)
        options.setdefault("scheduler", self.scheduler)
        self.cache = TokenCache(self, clock=self.clock, **options)

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Be the source."""
        self.attempts.append(attempt)
        if self.reply is not None:
            answer = self.reply(attempt)
        else:
            call = Call(attempt, self.clock.mono_now)
            self._entered.put(call)
            answer = call.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def fingerprint(self) -> object:
        """Return the credential's version."""
        self.looks += 1
        return self.version

    def launch(self, name: str, run: Callable[[], None]) -> None:
        """Start a flight, and return when it is under way or, with `reply`, over."""
        if self.reply is not None:
            run()
            return
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        call = self._entered.get()
        call.thread = thread
        self.calls.append(call)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.scheduler.advance(seconds)

    def clock_forward(self, seconds: float) -> None:
        """Let the monotonic clock alone go forward, without the timers."""
        self.clock.mono_now += seconds

    def in_thread(self, function: Callable[[], Any]) -> "Future[Any]":
        """Call `function` on a thread; return when it waits for a flight, or is done."""
        waiting = self.cache.status().waiting
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # it is handed to the test
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        while not future.done() and self.cache.status().waiting <= waiting:
            os.sched_yield()
        return future


def token(text: str, expires_in: float = 3600.0, refresh_in: float | None = None) -> IssuedToken:
    """Return a token as a source hands it over."""
    return IssuedToken(SecretStr(text), expires_in, refresh_in)


def numbered(lifetime: float = 3600.0) -> Callable[[Attempt], Answer]:
    """Return a reply that gives another token each time."""
    count = itertools.count(1)
    return lambda _attempt: token(f"token-{next(count)}", lifetime)


def outage(retry_after: float | None = None) -> TokenUnavailableError:
    """Return a passing failure."""
    return TokenUnavailableError("Entra ID answers 503", retry_after=retry_after)


def refusal() -> CredentialRejectedError:
    """Return a permanent failure."""
    return CredentialRejectedError("Entra ID refuses the secret", code="AADSTS7000215")
