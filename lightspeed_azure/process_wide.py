"""One instance a process, which a test or an application can stand another in for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightspeed_azure.concurrency.fork import ForkLock


class ProcessWide(type):
    """The metaclass of `AzureEntraIDManager` and of the client holder.

    `Class()` is always the same object; `Class.isolated(…)` makes one apart, and
    `with Class.replaced(other):` lets `Class()` mean `other` for a while. Safe to call from any
    thread; a replacement holds for the whole process, not for one thread.
    """

    _lock = ForkLock()

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls._current: Any = None
        cls._replaced: list[tuple[Any, Any]] = []

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the process-wide instance, which takes no arguments."""
        if args or kwargs:
            raise TypeError(
                f"{cls.__name__}() is the process-wide instance and takes no arguments; "
                f"use {cls.__name__}.isolated(…) for one of your own"
            )
        current = cls._current
        if current is None:
            with ProcessWide._lock:
                if cls._current is None:
                    cls._current = super().__call__()
                current = cls._current
        return current

    def build(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a new instance that is not the process-wide one."""
        return super().__call__(*args, **kwargs)

    @contextmanager
    def replaced(cls, instance: Any) -> Iterator[Any]:
        """Let the process-wide instance be `instance` until the block ends."""
        with ProcessWide._lock:
            before, cls._current = cls._current, instance
            cls._replaced.append((instance, before))
        try:
            yield instance
        finally:
            with ProcessWide._lock:
                at = max(n for n, (other, _) in enumerate(cls._replaced) if other is instance)
                _, before = cls._replaced.pop(at)
                if at == len(cls._replaced):
                    cls._current = before
                else:  # another came after it, and still stands: it goes back to what was before
                    cls._replaced[at] = (cls._replaced[at][0], before)
