"""A circuit breaker for one resolver.

It is our own because it serves threads and event loops at once, and reads an injected clock.
"""

from typing import Literal

LONGEST_REST = 600.0
"""Seconds; a longer Retry-After is cut to this."""

type BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed: calls pass. Open: no call passes. Half-open: the result of one call decides.

    Changed under its owner's lock; reading `state` needs none.

    Args:
        failures: how many failures in a row open it.
        rest: seconds that it stays open, unless the service sends a Retry-After.
    """

    def __init__(self, *, failures: int, rest: float) -> None:
        self.state: BreakerState = "closed"
        self._most = failures
        self._rest = rest
        self._failures = 0
        self._until = 0.0

    def admits(self, now: float) -> Literal["call", "probe"] | None:
        """Return how the resolver may be called now (monotonic seconds); None for not at all."""
        if self.state == "closed":
            return "call"
        return "probe" if self.state == "open" and now >= self._until else None

    def begin_probe(self) -> None:
        """Admit no other call until the probe has succeeded or failed."""
        self.state = "half_open"

    def succeeded(self) -> None:
        """Close it."""
        self.state = "closed"
        self._failures = 0

    def failed(self, now: float, retry_after: float | None = None) -> bool:
        """Count a failure; return whether it opened the breaker."""
        self._failures += 1
        was_closed = self.state == "closed"
        if was_closed and self._failures < self._most and retry_after is None:
            return False
        self._until = now + (self._rest if retry_after is None else min(retry_after, LONGEST_REST))
        self.state = "open"
        return was_closed
