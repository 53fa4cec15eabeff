"""Where a resolver runs: threads for a synchronous one, a loop of its own for an asynchronous one.

Neither ever holds up the caller's event loop, and a resolver that hangs holds up itself alone: at
its deadline a thread is given up, and few are; what waits then ends at its own deadline.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from lightspeed_azure.keys.flight import Flight

MOST_THREADS = 8
"""Questions that one synchronous resolver is asked at once; more of them wait their turn."""

MOST_GIVEN_UP = 4
"""Threads of one resolver that may hang beside those."""

MOST_STUCK_LOOPS = 2
"""Event loops of one resolver that may be blocked."""

type Launch = Callable[[str, Callable[[], None]], None]


class Workers:
    """The daemon threads of one synchronous resolver; each ends when nothing waits.

    Safe for any number of threads.
    """

    def __init__(self, name: str, launch: Launch) -> None:
        self._name = name
        self._launch = launch
        self._lock = threading.Lock()  # guards the rest
        self._waiting: deque[tuple[Flight, Callable[[], None]]] = deque()
        self._running: set[Flight] = set()
        self._given_up: dict[Flight, bool] = {}  # and whether its place was given away
        self._places = 0

    @property
    def hanging(self) -> int:
        """How many threads did not come back in time and have not come back since."""
        return len(self._given_up)

    def submit(self, flight: Flight, run: Callable[[], None]) -> None:
        """Run it on a thread, at once or as soon as one is free.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            self._waiting.append((flight, run))
            if not self._take_place():
                return
        self._start()

    def give_up(self, flight: Flight) -> None:
        """Wait no longer for this one; its place goes to the next."""
        with self._lock:
            if flight not in self._running:
                return  # it still waits, and is skipped when its turn comes
            self._running.discard(flight)
            gives = sum(self._given_up.values()) < MOST_GIVEN_UP
            self._given_up[flight] = gives
            if not gives:
                return
            self._places -= 1
            if not self._waiting or not self._take_place():
                return
        with contextlib.suppress(RuntimeError):
            self._start()

    def _take_place(self) -> bool:
        if self._places >= MOST_THREADS:
            return False
        self._places += 1
        return True

    def _start(self) -> None:
        try:
            self._launch(self._name, self._work)
        except RuntimeError:
            with self._lock:
                self._places -= 1
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._waiting and self._waiting[0][0].done:
                    self._waiting.popleft()
                if not self._waiting:
                    self._places -= 1
                    return
                flight, run = self._waiting.popleft()
                self._running.add(flight)
            run()
            with self._lock:
                self._running.discard(flight)
                if self._given_up.pop(flight, False):
                    return  # its place was given away


class LoopThread:
    """An event loop on a daemon thread, for one asynchronous resolver."""

    def __init__(self, name: str, launch: Launch) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[Flight, asyncio.Task[None]] = {}
        self._stuck = False
        try:
            launch(name, self._run)
        except RuntimeError:
            self._loop.close()
            raise

    @property
    def stuck(self) -> bool:
        """Whether something blocks the loop: it did not even let a call be given up."""
        return self._stuck

    def submit(
        self,
        flight: Flight,
        run: Callable[[], Coroutine[Any, Any, None]],
        context: contextvars.Context,
    ) -> None:
        """Run a coroutine on the loop."""

        def start() -> None:
            if flight.done:
                return
            task = self._loop.create_task(run(), context=context)
            self._tasks[flight] = task
            task.add_done_callback(lambda _: self._tasks.pop(flight, None))

        self._loop.call_soon_threadsafe(start)

    def give_up(self, flight: Flight) -> None:
        """Cancel what runs for this flight."""
        self._stuck = True

        def cancel() -> None:
            self._stuck = False
            task = self._tasks.get(flight)
            if task:
                task.cancel()

        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Cancel what runs, and end the thread; returns at once."""

        def stop() -> None:
            for task in [*self._tasks.values()]:
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if self._tasks:
                self._loop.run_until_complete(asyncio.wait([*self._tasks.values()], timeout=1.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
