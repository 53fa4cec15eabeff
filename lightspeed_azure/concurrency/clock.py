"""Two clocks: the one on the wall, which may be set, and one that only ever runs forward."""

import functools
import time
from typing import Protocol


class Clock(Protocol):
    """What the token cache asks for the time; tests stand in a clock of their own."""

    def wall(self) -> float:
        """Return POSIX seconds, as the machine believes them; they may step either way."""
        ...

    def monotonic(self) -> float:
        """Return seconds from some moment in the past; they never step back."""
        ...


class SystemClock:
    """The machine's clocks; the monotonic one counts the time the machine was suspended too.

    Linux's CLOCK_MONOTONIC (Python's `time.monotonic`) stands still during a suspend, in which a
    token goes on ageing; CLOCK_BOOTTIME does not (clock_gettime(2)).

    The methods are attributes bound to C functions, because a fresh token's reader calls both.
    """

    def __init__(self) -> None:
        self.wall = time.time
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        self.monotonic = (
            time.monotonic if boottime is None else functools.partial(time.clock_gettime, boottime)
        )


SYSTEM_CLOCK: Clock = SystemClock()
