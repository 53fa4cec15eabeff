"""A token in hand: until when it is fresh, until when it may be used, judged by two clocks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

from pydantic import SecretStr

from lightspeed_azure.tokens.source import IssuedToken

type Zone = Literal["empty", "fresh", "stale", "expired"]

LONGEST_LEEWAY = 30.0
"""Seconds before its expiry at which a token counts as expired: a request takes time to arrive."""

LEEWAY_SHARE = 0.1
"""The most of its lifetime that a token loses to the leeway; tokens of a few seconds must work."""

JITTER_SHARE = 0.1
"""The share of half a lifetime by which renewals spread, so that replicas do not renew as one."""

MARGIN = 300.0
"""Seconds before its expiry by which a token that lives longer than this is to be renewed: time
for many attempts."""

LEAST_INTERVAL = 30.0
"""Seconds between renewals of a token that the source will not change, or that lives little more
than MARGIN."""

LEAST_SHARE = 0.1
"""The share of its lifetime before which no token is renewed, whatever `refresh_in` says: a service
or a proxy that sends a small one would otherwise be asked all the time."""

_LONGEST_LIFE = 10 * 365 * 86400.0
"""Seconds: whoever says that a token lives longer, or for ever, means this."""

_SAME_EXPIRY = 1.0
"""Seconds: sources count from whole seconds; two expiries this close are the same one."""


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A bearer token; the same object until it is renewed, so derived values may be kept by `is`.

    Attributes:
        secret: the token itself; shown by nothing.
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
class Held:
    """A token and the moments that matter; each holds as soon as either clock has reached it.

    Attributes:
        gate_wall, gate_mono: before both, a reader takes the token and need not look further.
        refresh_wall, refresh_mono: from here on a renewal is due.
        end_wall, end_mono: from here on the token is not given out: its expiry, less the leeway.
        expiry_mono: its expiry; `token.expires_on` by the wall clock.
        insisted: the source has just said that there is no better token before the refresh.
    """

    token: Token
    gate_wall: float
    gate_mono: float
    refresh_wall: float
    refresh_mono: float
    end_wall: float
    end_mono: float
    expiry_mono: float
    insisted: bool = False

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
        """Return the seconds that it will still be given out, 0 when it is not."""
        return max(0.0, min(self.end_wall - wall, self.end_mono - mono))

    def due_in(self, wall: float, mono: float) -> float:
        """Return the seconds until a renewal is due, 0 when it is."""
        return max(0.0, min(self.refresh_wall - wall, self.refresh_mono - mono))

    def gated(self) -> Self:
        """Return the same with the gate shut, so that the next reader looks further."""
        return replace(self, gate_wall=-math.inf, gate_mono=-math.inf)

    def ungated(self) -> Self:
        """Return the same with the gate open while it is fresh."""
        return replace(self, gate_wall=self.refresh_wall, gate_mono=self.refresh_mono)

    def kept(self, pause: float, wall: float, mono: float, *, leeway: float | None = None) -> Self:
        """Return the same token with the next renewal `pause` seconds from now.

        Args:
            pause: seconds.
            wall: now.
            mono: now.
            leeway: a new one, in seconds, when the source vouched for it within the old one.
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
            insisted=True,
        )


def hold(
    issued: IssuedToken,
    *,
    sent: tuple[float, float],
    now: tuple[float, float],
    number: int,
    random: Callable[[], float],
) -> Held:
    """Work out the moments of a token that the source has handed over.

    Args:
        issued: what the source said.
        sent: wall and monotonic seconds when the request was sent.
        now: wall and monotonic seconds.
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
    return Held(
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
    """Return the seconds from sending after which to renew."""
    half = lifetime / 2
    after = half * (1 - JITTER_SHARE * random())
    if refresh_in is not None and 0 < refresh_in < lifetime:
        least = max(lifetime * LEAST_SHARE, min(LEAST_INTERVAL, lifetime / 4))
        after = max(refresh_in, least)
    if lifetime > MARGIN:
        after = min(after, max(lifetime - MARGIN, min(LEAST_INTERVAL, half)))
    return after


def unchanged(
    held: Held, again: Held, now: tuple[float, float], *, pause: float | None = None
) -> Held | None:
    """Return what to hold after the source has given back the token in hand, or None if it is dead.

    The source has the last word on the expiry. Next try after half of what remains, at least
    `least_pause`. A token within its leeway that the source still vouches for is used on, with a
    leeway of a tenth of what remains.

    Args:
        held: the token in hand.
        again: the same token as it has come back.
        now: wall and monotonic seconds.
        pause: seconds until the next try, where the caller knows better.
    """
    if abs(again.remaining(*now) - held.remaining(*now)) <= _SAME_EXPIRY:
        again = held  # the same Token object: whoever derived something from it need not again
    remaining = again.remaining(*now)
    if remaining <= min(_SAME_EXPIRY, again.token.lifetime / 10):
        return None
    if pause is None:
        pause = max(least_pause(again), remaining / 2)
    leeway = None if again.usable_for(*now) > 0 else remaining * LEEWAY_SHARE
    return again.kept(pause, *now, leeway=leeway)


def least_pause(held: Held) -> float:
    """Return the seconds before a source that has nothing better is asked again.

    LEAST_INTERVAL, or a quarter of the lifetime for tokens that live less than four of those.
    """
    return min(LEAST_INTERVAL, held.token.lifetime / 4)
