"""What a token cache tells people about itself."""

from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.tokens.lifetime import Zone
from lightspeed_azure.tokens.renewals import Renewals


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """A snapshot of one token cache; it holds no secret.

    Attributes:
        name: which cache.
        zone: where its token stands.
        expires_on: POSIX seconds at which the token expires, or None without one.
        acquired_on: POSIX seconds at which the request for it was sent, or None.
        remaining: seconds until it expires, 0 afterwards, or None.
        last_success: POSIX seconds of the last good answer, or None.
        last_error: class of the last error, or None; it stays after a recovery.
        last_error_text: its message, or None.
        last_error_cure: what to do about it, "" when nobody knows.
        consecutive_failures: how many attempts have failed since the last good answer.
        next_attempt: seconds until the next attempt is due or allowed, or None when none is known.
        renewals: how many tokens were got.
        failures: how many attempts failed.
        waiting: callers that wait now.
        waits: how many callers have had to wait for a token, those that wait now included.
        refreshing: whether an attempt is under way.
    """

    name: str
    zone: Zone
    expires_on: float | None
    acquired_on: float | None
    remaining: float | None
    last_success: float | None
    last_error: str | None
    last_error_text: str | None
    last_error_cure: str
    consecutive_failures: int
    next_attempt: float | None
    renewals: int
    failures: int
    waiting: int
    waits: int
    refreshing: bool


def snapshot(name: str, renewals: Renewals, clock: Clock) -> CacheStatus:
    """Return the state of a cache at this moment."""
    with renewals.lock:
        wall, mono = clock.wall(), clock.monotonic()
        held, flight, error = renewals.holding.held, renewals.flight, renewals.last_error
        return CacheStatus(
            name=name,
            zone="empty" if held is None else held.zone(wall, mono),
            expires_on=None if held is None else held.token.expires_on,
            acquired_on=None if held is None else held.token.acquired_on,
            remaining=None if held is None else max(0.0, held.remaining(wall, mono)),
            last_success=renewals.last_success,
            last_error=None if error is None else type(error).__name__,
            last_error_text=None if error is None else str(error),
            last_error_cure="" if error is None else error.cure,
            consecutive_failures=renewals.backoff.failures,
            next_attempt=renewals.next_in(),
            renewals=renewals.holding.renewals,
            failures=renewals.failures,
            waiting=0 if flight is None else flight.waiting,
            waits=renewals.waits,
            refreshing=flight is not None,
        )
