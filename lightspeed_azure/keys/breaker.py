"""Leaves a resolver alone that fails again and again, and tries it once in a while.

A breaker of our own, for it serves threads and event loops at once, and reads an injected clock.
"""

from typing import Literal

LONGEST_REST = 600.0
"""Seconds: a service that asks for more than this is asked again after this."""

type BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed: asked. Open: not asked. Half-open: asked once, and that decides.

    Changed under its owner's lock; reading `state` needs none.

    Args:
        failures: how many in a row open it.
        rest: seconds that it stays open, unless the service says so itself with Retry-After.
    """

    def __init__(self, *, failures: int, rest: float) -> None:
        self.state: BreakerState = "closed"
        self._most = failures
        self._rest = rest
        self._failures = 0
        self._until = 0.0

    def admits(self, now: float) -> Literal["call", "probe"] | None:
        """Return how the resolver may be asked at this moment (monotonic seconds), None for not."""
        if self.state == "closed":
            return "call"
        return "probe" if self.state == "open" and now >= self._until else None

    def begin_probe(self) -> None:
        """Nobody else asks until the probe has succeeded or failed."""
        self.state = "half_open"

    def succeeded(self) -> None:
        """It answered, so it is well."""
        self.state = "closed"
        self._failures = 0

    def failed(self, now: float, retry_after: float | None = None) -> bool:
        """Count a failure; return whether the breaker opened by it."""
        self._failures += 1
        was_closed = self.state == "closed"
        if was_closed and self._failures < self._most and retry_after is None:
            return False
        self._until = now + (self._rest if retry_after is None else min(retry_after, LONGEST_REST))
        self.state = "open"
        return was_closed
