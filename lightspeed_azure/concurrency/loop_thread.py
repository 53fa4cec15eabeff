"""The portal: one event loop on a daemon thread, through which synchronous code uses the async one.

There is no synchronous copy of anything: a caller without an event loop hands a coroutine over and
waits for it. Works from any number of threads, and from a thread whose own event loop is running
(which then stands still, as with every synchronous call). A forked child gets a portal of its own.
"""

import asyncio
import atexit
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from lightspeed_azure.concurrency.fork import ForkLock, reset_in_child

_CLOSING = 2.0
"""Seconds that the loop may take to end with the interpreter."""


async def on_thread[T](work: Callable[[], T]) -> T:
    """Return what blocking work brings, on a daemon thread of its own.

    Once the main thread has ended, while other threads go on, neither the executor of an event loop
    takes work, nor a thread can be started (CPython 3.12): then the loop waits itself.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:  # noqa: BLE001 - it is the caller's
            error = caught
        loop.call_soon_threadsafe(settle, value, error)

    try:
        threading.Thread(target=run, daemon=True, name="lightspeed-azure-work").start()
    except RuntimeError:
        run()
    return await done


class _Loop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        return await on_thread(lambda: socket.getaddrinfo(*args, **options))


class Portal:
    """An event loop on a thread of its own. Safe to use from every other thread.

    Attributes:
        held: what lives on the loop, by its `OnPortal`.
    """

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self._loop = _Loop()
        self._thread = threading.Thread(
            target=self._serve, daemon=True, name="lightspeed-azure-portal"
        )
        self._thread.start()

    def run[T](self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns; whoever is interrupted while waiting cancels it.

        Raises:
            RuntimeError: called on the portal's own thread, which would wait for itself, or while
                the interpreter ends.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("A synchronous client was called by what it waits for")
        if self._loop.is_closed() or not self._thread.is_alive():
            raise RuntimeError(
                "The interpreter is ending, or this began before a fork; nothing can be sent any more"
            )
        future = asyncio.run_coroutine_threadsafe(start(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def drop(self, key: int, close: Callable[[Any], Awaitable[None]]) -> None:
        """Close what is held under a key; waits for nothing."""
        held = self.held.pop(key, None)
        if held is None or self._loop.is_closed():
            return

        def closing() -> None:
            task = asyncio.ensure_future(close(held))
            self.held[id(task)] = task  # or the collector might take it
            task.add_done_callback(lambda task: self.held.pop(id(task), None))

        self._loop.call_soon_threadsafe(closing)

    def end(self) -> None:
        """Stop the loop."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSING)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()


class _Current:
    """The portal of this process."""

    def __init__(self) -> None:
        self.lock = ForkLock()
        self.portal: Portal | None = None
        self.lost: list[Portal] = []
        reset_in_child(self)

    def get(self) -> Portal:
        if self.portal is None:
            with self.lock:
                if self.portal is None:
                    self.portal = Portal()
                    atexit.register(self.portal.end)
        return self.portal

    def after_fork(self) -> None:
        """Forget the parent's portal: its thread is not in the child, its connections are shared."""
        if self.portal is not None:
            atexit.unregister(self.portal.end)
            self.lost.append(self.portal)  # closing it would close what the parent uses
            self.portal = None


_current = _Current()


def portal() -> Portal:
    """Return the portal of this process; it starts at the first use."""
    return _current.get()


class OnPortal[T]:
    """Something that lives on the portal's loop; a forked child makes its own at the first use.

    Args:
        make: makes it; called on the loop.
        close: closes it.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close

    def run[R](self, use: Callable[[T], Awaitable[R]]) -> R:
        """Return what `use` returns, which runs on the loop; waits for it."""
        current = portal()

        async def used() -> R:
            if id(self) not in current.held:
                current.held[id(self)] = self._make()
                weakref.finalize(self, current.drop, id(self), self._close).atexit = False
            return await use(current.held[id(self)])

        return current.run(used)

    def close(self) -> None:
        """Close it, if this process has one; the next use makes another."""
        current = portal()
        held = current.held.pop(id(self), None)
        if held is not None:

            async def closed() -> None:
                await self._close(held)

            current.run(closed)
