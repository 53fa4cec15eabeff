"""Tell whether an awaitable had to wait, and how long."""

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Timed[T]:
    """Awaits something; says how long it waited where it could not go on at once.

    Args:
        awaitable: what is awaited.
        waited: is told the seconds; not where nothing was waited for.
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
    """Go on with what has taken its first step already."""
    resume: Callable[[Any], Any]
    while True:
        try:
            sent = yield step
        except BaseException as error:  # noqa: BLE001 - a cancellation is handed on too
            resume, argument = steps.throw, error
        else:
            resume, argument = steps.send, sent
        try:
            step = resume(argument)
        except StopIteration as end:
            result: T = end.value
            return result
