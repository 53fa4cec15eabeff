"""The moments of a token: until when it is fresh, until when it is usable, when to try again.

Pure functions and frozen values. Each moment is held by two clocks, and counts as soon as either
clock has reached it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

from pydantic import SecretStr

from lightspeed_azure.errors import TokenError
from lightspeed_azure.tokens.source import IssuedToken

type Zone = Literal["empty", "fresh", "stale", "expired"]

type Moment = tuple[float, float]
"""Wall clock (POSIX seconds) and monotonic seconds."""

LONGEST_LEEWAY = 30.0
"""Seconds before its expiry at which a token counts as expired: a request takes time to arrive."""

LEEWAY_SHARE = 0.1
"""The most of its lifetime that a token loses to the leeway; tokens of a few seconds must work."""

JITTER_SHARE = 0.1
"""The share of half a lifetime by which refreshes spread, so that replicas do not refresh at once."""

REFRESH_MARGIN = 300.0
"""Seconds before its expiry by which a token that lives longer is refreshed: time for many
attempts."""

LEAST_INTERVAL = 30.0
"""Seconds between refreshes of a token that the source does not change, or that lives little
longer than REFRESH_MARGIN."""

LEAST_SHARE = 0.1
"""The share of its lifetime before which no token is refreshed, whatever `refresh_in` says: a
service that sends a small one would otherwise be asked all the time."""

MOST_NEEDED = 0.4
"""Share of a token's lifetime that a caller may require to remain. It is less than the half at which
refreshes begin, so that a caller who requires it finds a new token."""

LONGEST_RETURNED_PAUSE = 300.0
"""Seconds: the longest pause before a source that returns the rejected token is asked again."""

LONGEST_REJECTION_PAUSE = 300.0
"""Seconds: the longest time for which a resource that rejects every token causes no refresh."""

FIRST_BACKOFF = 1.0
"""Seconds: the longest pause after a first failure; it doubles with each further one."""

LONGEST_BACKOFF = 60.0
"""Seconds: the longest pause of our own choosing, so that the end of an outage is noticed soon."""

SHORTEST_BACKOFF = 0.25
"""Seconds: full jitter may draw nearly nothing."""

PERMANENT_PAUSE = 30.0
"""Seconds for which a permanent failure is cached: its cause may be removed outside this process."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds: a service that asks for a longer pause is asked again after this."""

FIRST_WRITE_OFF = 60.0
"""Seconds after which an abandoned flight no longer counts; twice as long for each that hangs."""

LONGEST_WRITE_OFF = 3600.0
"""Seconds: the longest of these, so that a cache recovers whatever a flight hangs on."""

_LONGEST_LIFE = 10 * 365 * 86400.0
"""Seconds: the lifetime of a token that is said to live longer, or for ever."""

_SAME_EXPIRY = 1.0
"""Seconds: sources count in whole seconds, so two expiries this close are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A bearer token; the same object until it is refreshed, so derived values may be kept by `is`.

    Attributes:
        secret: the token itself.
        expires_on: POSIX seconds, by our wall clock when the request for it was sent.
        acquired_on: POSIX seconds at which the request for it was sent.
        lifetime: seconds from `acquired_on` to `expires_on`.
        number: 1 for a cache's first token, and one more for each further one.
    """

    secret: SecretStr
    expires_on: float
    acquired_on: float
    lifetime: float
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class CachedToken:
    """A token and its moments.

    Attributes:
        gate_wall, gate_mono: before both, a reader returns the token without a further check.
        refresh_wall, refresh_mono: from here on a refresh is due.
        end_wall, end_mono: from here on the token is not returned: its expiry, less the leeway.
        expiry_mono: its expiry; `token.expires_on` by the wall clock.
        vouched: the source has just said that there is no better token before the refresh.
    """

    token: Token
    gate_wall: float
    gate_mono: float
    refresh_wall: float
    refresh_mono: float
    end_wall: float
    end_mono: float
    expiry_mono: float
    vouched: bool = False

    def zone(self, wall: float, mono: float) -> Zone:
        """Return the zone at this moment."""
        if wall >= self.end_wall or mono >= self.end_mono:
            return "expired"
        if wall >= self.refresh_wall or mono >= self.refresh_mono:
            return "stale"
        return "fresh"

    def remaining(self, wall: float, mono: float) -> float:
        """Return the seconds until it expires, negative afterwards."""
        return min(self.token.expires_on - wall, self.expiry_mono - mono)

    def usable_for(self, wall: float, mono: float) -> float:
        """Return the seconds for which it will still be returned, 0 when it is not."""
        return max(0.0, min(self.end_wall - wall, self.end_mono - mono))

    def due_in(self, wall: float, mono: float) -> float:
        """Return the seconds until a refresh is due, 0 when it is."""
        return max(0.0, min(self.refresh_wall - wall, self.refresh_mono - mono))

    def lasts(self, need: float, wall: float, mono: float) -> bool:
        """Return whether it lives `need` seconds more, or no token that does can be had."""
        if need <= 0 or (self.vouched and self.zone(wall, mono) == "fresh"):
            return True
        return self.remaining(wall, mono) >= min(need, self.token.lifetime * MOST_NEEDED)

    def gated(self) -> Self:
        """Return the same with the gate shut, so that the next reader makes a further check."""
        return replace(self, gate_wall=-math.inf, gate_mono=-math.inf)

    def ungated(self) -> Self:
        """Return the same with the gate open while it is fresh."""
        return replace(self, gate_wall=self.refresh_wall, gate_mono=self.refresh_mono)

    def kept(self, pause: float, wall: float, mono: float, *, leeway: float | None = None) -> Self:
        """Return the same token with the next refresh `pause` seconds from now.

        Args:
            pause: seconds.
            wall: now.
            mono: now.
            leeway: a new one, in seconds, when the source returned the token within the old one.
        """
        end_wall, end_mono = self.end_wall, self.end_mono
        if leeway is not None:
            end_wall, end_mono = self.token.expires_on - leeway, self.expiry_mono - leeway
        refresh_wall, refresh_mono = min(wall + pause, end_wall), min(mono + pause, end_mono)
        return replace(
            self,
            gate_wall=refresh_wall,
            gate_mono=refresh_mono,
            refresh_wall=refresh_wall,
            refresh_mono=refresh_mono,
            end_wall=end_wall,
            end_mono=end_mono,
            vouched=True,
        )


def cached_token(
    issued: IssuedToken,
    *,
    sent: Moment,
    now: Moment,
    number: int,
    random: Callable[[], float],
) -> CachedToken:
    """Return a token that the source has issued, with its moments.

    Args:
        issued: what the source said.
        sent: when the request was sent.
        now: the present.
        number: which token of this cache it is.
        random: gives numbers from 0 up to 1.
    """
    lifetime = min(issued.expires_in, _LONGEST_LIFE)
    if math.isnan(lifetime):
        lifetime = 0.0
    usable = lifetime - min(LONGEST_LEEWAY, lifetime * LEEWAY_SHARE)
    # Never due at once, however short the token or slow its journey: that would be a busy loop.
    taken = max(now[0] - sent[0], now[1] - sent[1], 0.0)
    soonest = taken + min(1.0, max(0.0, usable - taken) / 2)
    refresh = min(max(_refresh_after(lifetime, issued.refresh_in, random), soonest), usable)
    return CachedToken(
        token=Token(issued.secret, sent[0] + lifetime, sent[0], lifetime, number),
        gate_wall=sent[0] + refresh,
        gate_mono=sent[1] + refresh,
        refresh_wall=sent[0] + refresh,
        refresh_mono=sent[1] + refresh,
        end_wall=sent[0] + usable,
        end_mono=sent[1] + usable,
        expiry_mono=sent[1] + lifetime,
    )


def _refresh_after(lifetime: float, refresh_in: float | None, random: Callable[[], float]) -> float:
    """Return the seconds from sending after which a refresh is due."""
    half = lifetime / 2
    after = half * (1 - JITTER_SHARE * random())
    if refresh_in is not None and 0 < refresh_in < lifetime:
        least = max(lifetime * LEAST_SHARE, min(LEAST_INTERVAL, lifetime / 4))
        after = max(refresh_in, least)
    if lifetime > REFRESH_MARGIN:
        after = min(after, max(lifetime - REFRESH_MARGIN, min(LEAST_INTERVAL, half)))
    return after


def returned_again(
    cached: CachedToken, again: CachedToken, now: Moment, *, pause: float | None = None
) -> CachedToken | None:
    """Return what to cache when the source returns the cached token again; None when it is dead.

    The source has the last word on the expiry. The next try is after half of what remains, at least
    `least_pause`. A token within its leeway that the source still returns is used on, with a leeway
    of a tenth of what remains.

    Args:
        cached: the cached token.
        again: the same token as it was returned.
        now: the present.
        pause: seconds until the next try, when it is not to be half of what remains.
    """
    if abs(again.remaining(*now) - cached.remaining(*now)) <= _SAME_EXPIRY:
        again = cached  # the same Token object, so that values derived from it stay
    remaining = again.remaining(*now)
    if remaining <= min(_SAME_EXPIRY, again.token.lifetime / 10):
        return None
    if pause is None:
        pause = max(least_pause(again), remaining / 2)
    leeway = None if again.usable_for(*now) > 0 else remaining * LEEWAY_SHARE
    return again.kept(pause, *now, leeway=leeway)


def least_pause(cached: CachedToken) -> float:
    """Return the seconds before a source that has no better token is asked again.

    LEAST_INTERVAL, or a quarter of the lifetime for tokens that live less than four of those.
    """
    return min(LEAST_INTERVAL, cached.token.lifetime / 4)


def longer_each_time(first: float, count: int, longest: float) -> float:
    """Return a pause that doubles with each of `count` repetitions, up to `longest` seconds."""
    return min(longest, first * 2.0 ** min(count, 16))


def backoff_pause(
    error: TokenError, failures: int, *, usable_for: float, random: Callable[[], float]
) -> float:
    """Return the seconds to wait after a failure.

    Exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). While a token is
    still usable, at most half of the time that it has left, so that attempts become more frequent
    towards its end. `Retry-After` of the service (RFC 9110 section 10.2.3) is the least, up to
    LONGEST_RETRY_AFTER.

    Args:
        error: the failure; permanent ones pause for PERMANENT_PAUSE.
        failures: how many in a row, this one included.
        usable_for: seconds that the cached token is still usable; 0 when there is none.
        random: gives numbers from 0 up to 1.
    """
    if error.permanent:
        pause = PERMANENT_PAUSE
    else:
        pause = longer_each_time(FIRST_BACKOFF, failures - 1, LONGEST_BACKOFF) * random()
    if usable_for > 0:
        pause = min(pause, usable_for / 2)
    asked = error.retry_after
    if asked is not None and not math.isnan(asked):
        pause = max(pause, min(asked, LONGEST_RETRY_AFTER))
    return max(pause, SHORTEST_BACKOFF)
