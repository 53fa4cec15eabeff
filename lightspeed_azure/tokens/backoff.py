"""How long to leave the token service alone after it failed."""

import math
from collections.abc import Callable

from lightspeed_azure.errors import TokenError
from lightspeed_azure.tokens.source import TokenSource

FIRST_STEP = 1.0
"""Seconds: the longest pause after a first failure; it doubles with each further one."""

LONGEST_STEP = 60.0
"""Seconds: the longest pause of our own choosing, so that an outage's end is noticed soon."""

SHORTEST_PAUSE = 0.25
"""Seconds: full jitter may draw nearly nothing, and nothing is no pause."""

PERMANENT_PAUSE = 30.0
"""Seconds that a permanent failure is cached: what mends it may happen where we cannot see it."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds: a service that asks for more than this is asked again after this."""

_LOOK_EVERY = 1.0
"""Seconds between looks at the credential's files while callers fail fast."""


class Backoff:
    """What failed last, how often in a row, and until when nobody asks again.

    The token cache changes it under its lock; reading it needs none.
    """

    def __init__(self, source: TokenSource) -> None:
        self.error: TokenError | None = None
        self.failures = 0
        self.until = -math.inf
        self._source = source
        self._fingerprint: object = None
        self._looked = -math.inf

    def failed(self, error: TokenError, pause: float, mono: float, fingerprint: object) -> None:
        """Rest for `pause` seconds from `mono`; `fingerprint` is the credential that failed."""
        self.until = mono + pause
        self._fingerprint = fingerprint
        self._looked = -math.inf
        self.failures += 1
        self.error = error

    def succeeded(self) -> None:
        """Forget the failures."""
        self.error = None
        self.failures = 0
        self.until = -math.inf

    def resting(self, mono: float) -> bool:
        """Return whether it is too early to ask again.

        A permanent failure's rest ends as soon as the credential's files have changed; they are
        looked at, once a second at most.
        """
        error = self.error
        if error is None or mono >= self.until:
            return False
        if error.permanent and mono - self._looked >= _LOOK_EVERY:
            self._looked = mono
            if fingerprint_of(self._source) != self._fingerprint:
                self.until = mono
                return False
        return True

    def ends_in(self, mono: float) -> float:
        """Return the seconds until the rest ends, 0 when it has."""
        return max(0.0, self.until - mono)


def fingerprint_of(source: TokenSource) -> object:
    """Return the source's fingerprint, or None where it cannot tell."""
    try:
        return source.fingerprint()
    except Exception:  # noqa: BLE001  # a credential that cannot be looked at has not changed
        return None


def pause_after(
    error: TokenError, failures: int, *, usable_for: float, random: Callable[[], float]
) -> float:
    """Return the seconds to wait before the next attempt.

    Exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), but while a token
    is still usable at most half of the time it has left, so that attempts grow denser towards its
    end and an outage that is over just before it goes unnoticed. What the service says
    (Retry-After, RFC 9110 section 10.2.3) is the least, up to LONGEST_RETRY_AFTER.

    Args:
        error: the failure; permanent ones pause for PERMANENT_PAUSE.
        failures: how many in a row, this one included.
        usable_for: seconds that the token in hand can still be used; 0 when there is none.
        random: gives numbers from 0 up to 1.
    """
    if error.permanent:
        pause = PERMANENT_PAUSE
    else:
        pause = min(LONGEST_STEP, FIRST_STEP * 2 ** min(failures - 1, 16)) * random()
    if usable_for > 0:
        pause = min(pause, usable_for / 2)
    asked = error.retry_after
    if asked is not None and not math.isnan(asked):
        pause = max(pause, min(asked, LONGEST_RETRY_AFTER))
    return max(pause, SHORTEST_PAUSE)
