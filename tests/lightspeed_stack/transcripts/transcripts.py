"""Stands in for a module that the wheel of lightspeed-stack 0.7.1 lacks: no transcript is kept."""

from collections.abc import Callable


def __getattr__(name: str) -> Callable[..., None]:
    """Return a function that does nothing."""
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: None
