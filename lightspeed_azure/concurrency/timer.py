"""Calls that are to happen later, all of them made by one daemon thread of the process."""

import contextlib
import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Protocol

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import reset_in_child
from lightspeed_azure.concurrency.threads import log_in_background

_LONGEST_NAP = 60.0
"""Seconds: waiting does not count a suspend, so the thread looks at the clock this often."""

_logger = logging.getLogger(__name__)


class TimerHandle(Protocol):
    """A call that has been arranged."""

    def cancel(self) -> None:
        """Call it off; does nothing when it has been made already."""
        ...


class Scheduler(Protocol):
    """Where the token cache leaves what is to happen later."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` once, `delay` seconds from now, on a thread that is not the caller's."""
        ...


class _Call:
    """One call in the heap; a cancelled one lets go of its callback and is skipped."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class TimerThread:
    """A scheduler with one daemon thread, started by the first call that is arranged.

    Safe for use by any number of threads. Callbacks must be short: they share the thread. A forked
    child begins with no calls and no thread, and starts a thread of its own when it needs one.
    """

    _thread: threading.Thread | None

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.after_fork()
        reset_in_child(self)

    def call_later(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` once, `delay` seconds from now, on the timer thread."""
        call = _Call(callback)
        with self._changed:
            item = (self._clock.monotonic() + delay, next(self._order), call)
            heapq.heappush(self._heap, item)
            if self._thread is None:
                self._begin()
            elif self._heap[0] is item:
                self._changed.notify()
        return call

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="lightspeed-azure-timer", daemon=True)
        # No thread is to be had at the interpreter's end or the process's limit: the call stays
        # in the heap, and the next one tries again.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def after_fork(self) -> None:
        """Begin without calls and without a thread."""
        self._changed = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()
        self._thread = None

    def _run(self) -> None:
        while True:
            callback = self._next_due().callback
            if callback is None:
                continue
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # one broken callback must not stop the rest
                _log_failure(type(error).__name__)

    def _next_due(self) -> _Call:
        with self._changed:
            while True:
                if not self._heap:
                    self._changed.wait()
                    continue
                ahead = self._heap[0][0] - self._clock.monotonic()
                if ahead <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(min(ahead, _LONGEST_NAP))


def _log_failure(kind: str) -> None:
    # The class alone: the message of a foreign exception may contain a secret.
    log_in_background(lambda: _logger.error("A timer's callback failed: %s", kind))


TIMER_THREAD: Scheduler = TimerThread()
