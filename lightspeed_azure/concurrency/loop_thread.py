"""Event loops on daemon threads, and the portal: the loop that synchronous code of a process shares.

No class has a synchronous copy: a caller without an event loop submits a coroutine to the portal and
waits for it. This works from any number of threads, and from a thread whose own event loop is running
(which then blocks, as with every synchronous call). A forked child gets its own portal.
"""

import asyncio
import atexit
import contextlib
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from lightspeed_azure.concurrency.fork import ForkLock, reset_in_child

_CLOSING = 2.0
"""Seconds that a loop may take to end."""


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


class LoopThread:
    """An event loop on a daemon thread of its own. Safe to use from any thread.

    Args:
        name: the thread's name.

    Raises:
        RuntimeError: no thread can be started.
    """

    def __init__(self, name: str) -> None:
        self._loop = _Loop()
        self._unresponsive = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name=name)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; false in a forked child."""
        return self._thread.is_alive()

    @property
    def is_blocked(self) -> bool:
        """Whether something blocks the loop: it has not processed a cancellation yet."""
        return self._unresponsive

    def submit[T](self, start: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the loop, in a copy of the caller's context.

        Raises:
            RuntimeError: the loop has ended.
        """
        work = start()
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise

    def run[T](self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns. An interrupt of the waiting thread cancels it.

        Raises:
            RuntimeError: called on the loop's own thread, which would wait for itself, or after the
                loop has ended.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("A synchronous client was called by what it waits for")
        if self._loop.is_closed() or not self.is_alive:
            raise RuntimeError(
                "The interpreter is ending, or this began before a fork; nothing can be sent any more"
            )
        future = self.submit(start)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def cancel(self, future: Future[Any]) -> None:
        """Cancel what `submit` started; `is_blocked` is true until the loop does it."""
        if self._loop.is_closed():
            return
        self._unresponsive = True
        future.cancel()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._respond)

    def stop(self) -> None:
        """Cancel what runs and end the thread; returns at once."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._loop.stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _respond(self) -> None:
        self._unresponsive = False

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSING))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()


class Portal(LoopThread):
    """The process's event loop for synchronous code.

    Attributes:
        held: the objects that live on the loop, by the id of their `OnPortal`.
    """

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        super().__init__("lightspeed-azure-portal")

    def drop(self, key: int, close: Callable[[Any], Awaitable[None]]) -> None:
        """Close the object under a key; returns at once."""
        held = self.held.pop(key, None)
        if held is None or self._loop.is_closed():
            return

        def closing() -> None:
            task = asyncio.ensure_future(close(held))
            self.held[id(task)] = task  # the loop keeps only a weak reference to a task
            task.add_done_callback(lambda task: self.held.pop(id(task), None))

        self._loop.call_soon_threadsafe(closing)

    def end(self) -> None:
        """Stop the loop, and wait for its end for a short time."""
        if self.is_alive:
            self.stop()
            self.join(_CLOSING)


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
