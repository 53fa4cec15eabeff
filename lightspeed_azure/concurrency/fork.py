"""What keeps this package usable in a forked child process.

A child has only the thread that forked. A lock that another thread held stays locked in it, and so
does a module that another thread was importing. Servers that load the application before they fork
(`gunicorn --preload`) and `multiprocessing` with the start method `fork` meet both.

- `ForkLock` is free in the child.
- `importing` makes a fork wait until the import has finished.
- `reset_in_child` registers an object that has more to reset.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

LONGEST_WAIT = 30.0
"""Seconds that a fork waits for imports on other threads. Each import is waited for only once."""


class Resettable(Protocol):
    """An object that a forked child must reset."""

    def after_fork(self) -> None:
        """Reset what does not survive a fork; called in the child, in its only thread."""
        ...


class ForkLock:
    """A re-entrant lock for `with`; free in a forked child, unless the thread that forked holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """Replace the lock if the thread that held it does not exist in this process."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


class Imports:
    """The imports that run on threads of this package; a fork waits for them.

    Attributes:
        interrupted: modules that were being imported when this process was forked. Importing one
            of them blocks for ever, because CPython keeps a lock for each module. Empty unless the
            import took longer than the fork waited, or C code forked without Python's hooks.
    """

    def __init__(self) -> None:
        self.interrupted: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._running: dict[object, tuple[int, str]] = {}
        self._given_up: set[object] = set()

    @contextmanager
    def running(self, module: str) -> Iterator[None]:
        """Let a fork wait until the block ends."""
        key = object()
        with self._changed:
            self._running[key] = threading.get_ident(), module
        try:
            yield
        finally:
            with self._changed:
                self._running.pop(key, None)
                self._given_up.discard(key)
                self._changed.notify_all()

    def is_running(self, module: str) -> bool:
        """Return whether a module is being imported."""
        with self._changed:
            return any(each == module for _, each in self._running.values())

    def before_fork(self) -> None:
        """Wait for the imports of other threads, and let none begin before the fork."""
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._of_others() - self._given_up, LONGEST_WAIT)
        self._given_up |= self._of_others()

    def after_fork_in_parent(self) -> None:
        """Let imports begin again."""
        self._changed.release()

    def after_fork(self) -> None:
        """Forget the imports of threads that do not exist in the child."""
        lost = self._of_others()
        self.interrupted |= {self._running.pop(key)[1] for key in lost}
        self._given_up = set()
        self._changed = threading.Condition()

    def _of_others(self) -> set[object]:
        me = threading.get_ident()
        return {key for key, (thread, _) in self._running.items() if thread != me}


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_objects: weakref.WeakSet[Resettable] = weakref.WeakSet()
_imports = Imports()


def importing(module: str) -> AbstractContextManager[None]:
    """Return a context for an import on a thread that its caller does not control.

    Args:
        module: what is imported.
    """
    return _imports.running(module)


def is_importing(module: str) -> bool:
    """Return whether a thread of this process is importing a module in a context of `importing`."""
    return _imports.is_running(module)


def interrupted_imports() -> frozenset[str]:
    """Return the modules that cannot be imported in this process; see `Imports.interrupted`."""
    return _imports.interrupted


def reset_in_child(each: Resettable) -> None:
    """Call `each.after_fork()` in every forked child, as long as the object lives.

    All instances of `ForkLock` are free by then. The order of the calls is not defined.
    """
    _objects.add(each)


def _after_fork() -> None:
    _imports.after_fork()
    for lock in list(_locks):
        lock.after_fork()
    for each in list(_objects):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_imports.before_fork,
        after_in_parent=_imports.after_fork_in_parent,
        after_in_child=_after_fork,
    )
