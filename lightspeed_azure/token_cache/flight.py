"""One request for a token under way, and everybody who waits for it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from pydantic import SecretStr

from lightspeed_azure.errors import TokenError
from lightspeed_azure.token_cache.scheduler import TimerHandle

_WOKEN_AT_ONCE = 200
"""Coroutines woken in one turn of their event loop, so that a crowd leaves room for others."""


def start_daemon_thread(name: str, run: Callable[[], None]) -> None:
    """Run `run` on a daemon thread of its own.

    No pool: a stuck worker would hold up later flights and the interpreter's exit.
    """
    threading.Thread(target=run, name=name, daemon=True).start()


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
        self._crowds: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

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
                loop.call_soon_threadsafe(_wake, loop, crowd, 0)
            except RuntimeError:
                continue  # the loop was closed, and nobody waits there any more

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

    async def wait_async(self) -> None:
        """Wait in a coroutine; its cancellation lets only this caller go."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._settled.done():
                return
            # A future for each waiter, one thread-safe call for each loop: the cheapest there is.
            place = loop.create_future()
            self._crowds.setdefault(loop, []).append(place)
            self.waiting += 1
        try:
            await place
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiting += change


def _wake(loop: asyncio.AbstractEventLoop, crowd: list[asyncio.Future[None]], first: int) -> None:
    """Wake some of the crowd now and the next ones in the loop's next turn."""
    after = first + _WOKEN_AT_ONCE
    if after < len(crowd):
        loop.call_soon(_wake, loop, crowd, after)
    for place in crowd[first:after]:
        if not place.done():
            place.set_result(None)
