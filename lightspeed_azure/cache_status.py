"""What a token cache tells people about itself."""

from dataclasses import dataclass

from lightspeed_azure.held_token import Zone


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
        consecutive_failures: how many attempts have failed since the last good answer.
        next_attempt: seconds until the next attempt is due or allowed, or None when none is known.
        renewals: how many tokens were got.
        failures: how many attempts failed.
        waiting: callers that wait now.
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
    consecutive_failures: int
    next_attempt: float | None
    renewals: int
    failures: int
    waiting: int
    refreshing: bool
