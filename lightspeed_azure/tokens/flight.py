"""One request for a token under way, and everybody who waits for it."""

import asyncio
import functools
import threading
from concurrent.futures import Future

from pydantic import SecretStr

from lightspeed_azure.concurrency.timer import TimerHandle
from lightspeed_azure.errors import TokenError

_WOKEN_AT_ONCE = 200
"""Coroutines woken in one turn of their event loop, so that a crowd leaves room for others."""


class Flight:
    """One request for a token; threads and coroutines of any number of event loops wait for it.

    A flight is settled once, by whichever comes first: the source's answer or the deadline. All
    methods are safe from any thread.

    Args:
        deadline: monotonic seconds at which the waiters are let go.
        previous: the token to be replaced, if there was one.

    Attributes:
        timer: the call at the deadline; whoever settles the flight earlier cancels it.
        error: why there is no new token, once settled; None when there is.
        waiting: how many wait now.
    """

    timer: TimerHandle

    def __init__(self, *, deadline: float, previous: SecretStr | None) -> None:
        self.deadline = deadline
        self.previous = previous
        self.error: TokenError | None = None
        self.waiting = 0
        self._lock = threading.Lock()
        self._settled: Future[None] = Future()
        self._crowds: dict[asyncio.AbstractEventLoop, _Crowd] = {}

    def settle(self, error: TokenError | None) -> None:
        """Let all waiters go; the first call counts, later ones do nothing."""
        with self._lock:
            if self._settled.done():
                return
            self.error = error
            self._settled.set_result(None)
            crowds, self._crowds = self._crowds, {}
        for loop, crowd in crowds.items():
            try:
                loop.call_soon_threadsafe(crowd.wake, loop)
            except RuntimeError:
                continue  # the loop is closed, and has no waiters

    def wait(self, timeout: float) -> bool:
        """Wait on this thread; return whether the flight was settled within `timeout` seconds."""
        self._count(1)
        try:
            self._settled.result(timeout)
        except TimeoutError:
            return False
        finally:
            self._count(-1)
        return True

    async def wait_async(self, timeout: float) -> bool:  # noqa: ASYNC109 - one timer a loop
        """Wait in a coroutine; return whether the flight was settled within `timeout` seconds.

        Cancelling the coroutine affects no other waiter. The waiters of an event loop share one
        timer, that of the first of them.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._settled.done():
                return True
            crowd = self._crowds.get(loop)
            if crowd is None:
                crowd = self._crowds[loop] = _Crowd(loop.call_later(timeout, self._let_go, loop))
            # A future for each waiter and one thread-safe call for each loop are the cheapest way.
            place: asyncio.Future[bool] = loop.create_future()
            crowd.places.append(place)
            self.waiting += 1
        try:
            return await place
        finally:
            self._count(-1)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the waiters of a loop although the flight is not settled; called in that loop."""
        with self._lock:
            crowd = self._crowds.pop(loop, None)
        if crowd is not None:
            crowd.wake(loop, settled=False)

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiting += change


class _Crowd:
    """The coroutines of one event loop that wait for a flight.

    Args:
        timer: wakes them when the flight takes too long.
    """

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.places: list[asyncio.Future[bool]] = []
        self._timer = timer

    def wake(
        self, loop: asyncio.AbstractEventLoop, first: int = 0, *, settled: bool = True
    ) -> None:
        """Wake some waiters now and the next ones in the loop's next turn."""
        self._timer.cancel()
        after = first + _WOKEN_AT_ONCE
        if after < len(self.places):
            loop.call_soon(functools.partial(self.wake, loop, after, settled=settled))
        for place in self.places[first:after]:
            if not place.done():
                place.set_result(settled)
