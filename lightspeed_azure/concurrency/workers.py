"""Daemon threads for blocking work that may hang."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.concurrency.threads import start_daemon_thread

MOST_THREADS = 8
"""Calls that run at once; further calls wait for a free thread."""

MOST_ABANDONED = 4
"""Abandoned threads that are replaced by new ones."""


class Workers:
    """A bounded number of daemon threads; each ends when no work waits. Safe to use from any thread.

    A thread that hangs is abandoned at the deadline of its flight and replaced, at most
    MOST_ABANDONED times. After that, work waits until its own deadline.

    Args:
        name: the threads' name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()  # guards the rest
        self._waiting: deque[tuple[SingleFlight[Any], Callable[[], None]]] = deque()
        self._running: set[SingleFlight[Any]] = set()
        self._abandoned: dict[SingleFlight[Any], bool] = {}  # and whether it was replaced
        self._threads = 0

    @property
    def hanging(self) -> int:
        """How many abandoned threads have not returned yet."""
        return len(self._abandoned)

    def submit(self, flight: SingleFlight[Any], run: Callable[[], None]) -> None:
        """Run `run` as soon as a thread is free, unless the flight is done by then.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            self._waiting.append((flight, run))
            if not self._may_start():
                return
        self._start()

    def abandon(self, flight: SingleFlight[Any]) -> None:
        """Stop counting on the thread that runs this flight, and replace it."""
        with self._lock:
            if flight not in self._running:
                return  # it still waits, and is skipped when its turn comes
            self._running.discard(flight)
            replaced = sum(self._abandoned.values()) < MOST_ABANDONED
            self._abandoned[flight] = replaced
            if not replaced:
                return
            self._threads -= 1
            if not self._waiting or not self._may_start():
                return
        with contextlib.suppress(RuntimeError):
            self._start()

    def _may_start(self) -> bool:
        if self._threads >= MOST_THREADS:
            return False
        self._threads += 1
        return True

    def _start(self) -> None:
        try:
            start_daemon_thread(self._name, self._work)
        except RuntimeError:
            with self._lock:
                self._threads -= 1
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._waiting and self._waiting[0][0].done:
                    self._waiting.popleft()
                if not self._waiting:
                    self._threads -= 1
                    return
                flight, run = self._waiting.popleft()
                self._running.add(flight)
            run()
            with self._lock:
                self._running.discard(flight)
                if self._abandoned.pop(flight, False):
                    return  # another thread has replaced this one
