"""One run of something slow, shared by all callers who wait for its result."""

import asyncio
import functools
import threading
from concurrent.futures import Future

from lightspeed_azure.concurrency.timer import TimerHandle

_WOKEN_AT_ONCE = 200
"""Coroutines woken in one turn of their event loop, so that other tasks get their turn too."""


class SingleFlight[T]:
    """One run, from its start to its result or its deadline.

    Threads and coroutines of any number of event loops can wait for it. Cancelling one of them
    affects no other. The first call of `finish` counts. Safe to use from any thread.

    Args:
        deadline: monotonic seconds at which the waiters are released.

    Attributes:
        timer: the call at the deadline; `finish` cancels it.
        result: what the run returned, once it is done.
        waiters: how many wait now.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.timer: TimerHandle | None = None
        self.result: T | None = None
        self.waiters = 0
        self._lock = threading.Lock()
        self._done: Future[None] = Future()
        self._by_loop: dict[asyncio.AbstractEventLoop, _Waiters] = {}

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self._done.done()

    def finish(self, result: T) -> bool:
        """Release all waiters with this result; return whether it was the first one."""
        with self._lock:
            if self._done.done():
                return False
            self.result = result
            self._done.set_result(None)
            by_loop, self._by_loop = self._by_loop, {}
        if self.timer is not None:
            self.timer.cancel()
        for loop, waiters in by_loop.items():
            try:
                loop.call_soon_threadsafe(waiters.wake, loop)
            except RuntimeError:
                continue  # the loop is closed, and has no waiters
        return True

    def wait(self, timeout: float) -> bool:
        """Wait on this thread; return whether it was done within `timeout` seconds."""
        self._count(1)
        try:
            self._done.result(timeout)
        except TimeoutError:
            return False
        finally:
            self._count(-1)
        return True

    async def wait_async(self, timeout: float) -> bool:  # noqa: ASYNC109 - one timer a loop
        """Wait in a coroutine; return whether it was done within `timeout` seconds.

        The waiters of an event loop share one timer, that of the first of them.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._done.done():
                return True
            waiters = self._by_loop.get(loop)
            if waiters is None:
                timer = loop.call_later(timeout, self._time_out, loop)
                waiters = self._by_loop[loop] = _Waiters(timer)
            # A future for each waiter and one thread-safe call for each loop are the cheapest way.
            future: asyncio.Future[bool] = loop.create_future()
            waiters.futures.append(future)
            self.waiters += 1
        try:
            return await future
        finally:
            self._count(-1)

    def _time_out(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            waiters = self._by_loop.pop(loop, None)
        if waiters is not None:
            waiters.wake(loop, done=False)

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiters += change


class _Waiters:
    """The coroutines of one event loop that wait for one run.

    Args:
        timer: wakes them when it takes too long.
    """

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.futures: list[asyncio.Future[bool]] = []
        self._timer = timer

    def wake(self, loop: asyncio.AbstractEventLoop, first: int = 0, *, done: bool = True) -> None:
        """Wake some waiters now and the next ones in the loop's next turn."""
        self._timer.cancel()
        after = first + _WOKEN_AT_ONCE
        if after < len(self.futures):
            loop.call_soon(functools.partial(self.wake, loop, after, done=done))
        for future in self.futures[first:after]:
            if not future.done():
                future.set_result(done)
