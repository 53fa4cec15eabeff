"""The event loop that the command runs on: uvloop where there is one, else asyncio's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, on an event loop of its own.

    Raises:
        Exception: what it raises.
    """
    with asyncio.Runner(loop_factory=_factory()) as runner:
        runner.run(work)


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not there on Windows, nor with PyPy
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
