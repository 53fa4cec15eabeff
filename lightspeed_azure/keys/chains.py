"""Which resolvers step into which function, remembered until somebody registers or leaves."""

import weakref
from collections.abc import Callable
from typing import Any

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.keys.registration import Registration

UNKNOWN: tuple[Any, ...] = (None,)
"""The chain of a function that has not been called yet."""

_all: "weakref.WeakSet[Chained]" = weakref.WeakSet()
_changes = [0]
_lock = ForkLock()  # guards the two above, and every `Chained.chain`


class Chained:
    """A function whose resolvers are remembered.

    Args:
        name: what resolvers know it by.

    Attributes:
        name: see above.
        chain: the resolvers that step in; empty: the function is called, and nothing else happens.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.chain: tuple[Registration, ...] = UNKNOWN
        with _lock:
            _all.add(self)

    def remembered(
        self, ask: Callable[[str], tuple[Registration, ...]]
    ) -> tuple[Registration, ...]:
        """Return the chain; `ask` tells it by the name, where it is not known."""
        chain = self.chain
        if chain is UNKNOWN:
            changes = _changes[0]
            chain = ask(self.name)
            with _lock:
                if changes == _changes[0]:  # else somebody has registered or left meanwhile
                    self.chain = chain
        return chain


def name_of(function: Any, name: str = "") -> str:
    """Return what resolvers know a function by; that of an extensible one, if it is one.

    Raises:
        TypeError: it is neither a function nor a name.
    """
    if name or isinstance(function, str):
        return name or function
    point = getattr(function, "extensible", None)
    if isinstance(point, Chained):
        return point.name
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        raise TypeError("a function is needed, or its name") from None


def chains_changed() -> None:
    """Let each function ask the registry at its next call."""
    with _lock:
        _changes[0] += 1
        for each in list(_all):
            each.chain = UNKNOWN
