"""The token in hand, and what becomes of one that arrives."""

import hmac
import math
from collections.abc import Callable
from typing import Literal

from pydantic import SecretStr

from lightspeed_azure.tokens.lifetime import (
    MARGIN,
    Held,
    Token,
    hold,
    least_pause,
    unchanged,
)
from lightspeed_azure.tokens.rejections import Rejections
from lightspeed_azure.tokens.source import IssuedToken

type Reception = Literal["renewed", "unchanged", "returned", "useless"]
"""A new token; the one in hand, or none better; the one that was rejected; a dead or late one."""


class Holding:
    """What is held now, what was rejected, and how many there were.

    Changed under the token cache's lock. `held` and `used` are read and `used` is set without it.

    Attributes:
        held: the token in hand with its moments; replaced as a whole, never changed.
        used: whether the token was used since the last good answer.
        latest: the last token had, were it expired or rejected.
        renewals: how many tokens were got.
        rejections: which resources rejected a token lately.
    """

    __slots__ = (
        *("_rejected", "_returned", "_stand_until"),
        *("held", "latest", "rejections", "renewals", "used"),
    )

    def __init__(self) -> None:
        self.held: Held | None = None
        self.used = False
        self.latest: Token | None = None
        self.renewals = 0
        self.rejections = Rejections()
        self._rejected: Held | None = None
        self._returned = 0  # how often the source gave back the rejected token, in a row
        self._stand_until = -math.inf  # monotonic: until then the returned token is not dropped

    def drop(self, secret: SecretStr | str, by: str, mono: float) -> bool:
        """Drop the token in hand if it is this one; return whether it was dropped.

        Args:
            secret: the token that was rejected.
            by: the resource that rejected it.
            mono: monotonic seconds now.
        """
        held = self.held
        if held is None or mono < self._stand_until or not _equal(held.token.secret, secret):
            return False
        if not self.rejections.replaces(held, by, mono):
            return False
        self.held, self._rejected = None, held
        return True

    def receive(
        self,
        issued: IssuedToken,
        *,
        sent: tuple[float, float],
        now: tuple[float, float],
        live: bool,
        random: Callable[[], float],
    ) -> Reception:
        """Hold what has arrived, or keep what is better; return which.

        Args:
            issued: what the source said.
            sent: wall and monotonic seconds when the request was sent.
            now: wall and monotonic seconds.
            live: whether it has come in time.
            random: gives numbers from 0 up to 1.
        """
        new = hold(issued, sent=sent, now=now, number=self.renewals + 1, random=random)
        if not live and not self._is_better(new, now):
            return "useless"
        held, rejected = self.held, self._rejected
        kept: Held | None = None
        reception: Reception = "unchanged"
        if held is not None and _equal(held.token.secret, issued.secret):
            kept = unchanged(held, new, now)
        elif held is None and rejected is not None and _equal(rejected.token.secret, issued.secret):
            # The source stands by it: take its word, and ask again later and later.
            pause = min(MARGIN, least_pause(rejected) * 2 ** min(self._returned, 8))
            kept, reception = unchanged(rejected, new, now, pause=pause), "returned"
            self._returned += 1
            self._stand_until = now[1] + pause
        elif held is not None and _serves_longer(held, new, now):
            kept = held.kept(max(least_pause(held), held.remaining(*now) / 2), *now)
        elif new.usable_for(*now) > 0:
            kept, reception = new, "renewed"
            self._rejected, self._returned, self._stand_until = None, 0, -math.inf
        if kept is None:
            return "useless"
        if kept.token is not self.latest:
            self.renewals += 1
        self.held, self.latest, self.used = kept, kept.token, False
        return reception

    def _is_better(self, new: Held, now: tuple[float, float]) -> bool:
        """Return whether a late answer brings a token that nobody rejected and that lasts longer."""
        rejected = self._rejected
        if rejected is not None and _equal(rejected.token.secret, new.token.secret):
            return False
        left = 0.0 if self.held is None else self.held.usable_for(*now)
        return new.usable_for(*now) > left


def _serves_longer(held: Held, new: Held, now: tuple[float, float]) -> bool:
    """Return whether to keep the token in hand: the new one is shorter, and shorter than MARGIN."""
    return 0 < new.usable_for(*now) < min(held.usable_for(*now), MARGIN)


def _equal(one: SecretStr, other: SecretStr | str) -> bool:
    """Compare in a time that does not tell how far they agree."""
    text = other if isinstance(other, str) else other.get_secret_value()
    return hmac.compare_digest(
        one.get_secret_value().encode(errors="surrogatepass"),
        text.encode(errors="surrogatepass"),
    )
