"""How long a task may take, and how long it had to wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self


class Deadline:
    """Cancels tasks that stay in its block for too long: `asyncio.timeout` at a fifth of the cost.

    The limit is the same for all tasks, so the first one to enter is the first one to exceed it, and
    one timer is enough. Use it from one event loop.

    Args:
        seconds: the limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inside: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> "_Block":
        """Return the block for `with deadline():`; a task may be in one block at a time.

        Raises:
            TimeoutError: from the block, when it took too long.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Only a task has a deadline")
        return _Block(self, task)

    def enter(self, task: asyncio.Task[object]) -> None:
        """Start the time of a task."""
        loop = task.get_loop()
        self._inside[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)

    def again(self, task: asyncio.Task[object]) -> None:
        """Restart the time of a task in its block."""
        if self._inside.pop(task, None) is not None:
            self.enter(task)

    def leave(self, task: asyncio.Task[object]) -> bool:
        """End the time of a task; return whether it took too long."""
        self._inside.pop(task, None)
        if task in self._late:
            self._late.remove(task)
            return True
        return False

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._inside:
            task, end = next(iter(self._inside.items()))
            if end > now:
                self._timer = loop.call_at(end, self._look, loop)
                return
            del self._inside[task]
            self._late.add(task)
            task.cancel()


class _Block:
    __slots__ = ("_cancelling", "_deadline", "_task")

    def __init__(self, deadline: Deadline, task: asyncio.Task[object]) -> None:
        self._deadline = deadline
        self._task = task

    def __enter__(self) -> Self:
        self._cancelling = self._task.cancelling()
        self._deadline.enter(self._task)
        return self

    def again(self) -> None:
        """Restart the time; may be called from any task."""
        self._deadline.again(self._task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if (
            self._deadline.leave(self._task)
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error


class Timed[T]:
    """Awaits something, and reports how long it had to wait.

    Args:
        awaitable: what is awaited.
        waited: called with the seconds, unless nothing had to be waited for.
    """

    __slots__ = ("_awaitable", "_waited")

    def __init__(self, awaitable: Awaitable[T], waited: Callable[[float], None]) -> None:
        self._awaitable = awaitable
        self._waited = waited

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        began = time.perf_counter()
        try:
            return (yield from _rest(steps, step))
        finally:
            self._waited(time.perf_counter() - began)


def _rest[T](steps: Generator[Any, Any, T], step: Any) -> Generator[Any, Any, T]:
    """Continue an awaitable after its first step."""
    resume: Callable[[Any], Any]
    while True:
        try:
            sent = yield step
        except BaseException as error:  # noqa: BLE001 - a cancellation is passed on too
            resume, argument = steps.throw, error
        else:
            resume, argument = steps.send, sent
        try:
            step = resume(argument)
        except StopIteration as end:
            result: T = end.value
            return result
