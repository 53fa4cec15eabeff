"""What a resolver said before: given again while it is fresh, and while the resolver fails."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from lightspeed_azure.keys.hook_call import Answer, Ask, Fault, Pass

MOST = 1024
"""Answers kept for one resolver; the one that was used longest ago goes first."""

ASK_AGAIN_AFTER = 1.0
"""Seconds until a resolver is asked again that returned a key once more which a provider refused."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was said, and until when it counts (monotonic seconds).

    Attributes:
        said: the answer.
        asked_at: when the resolver was asked.
        fresh_until: until then it is given without asking.
        stale_until: until then it stands in while the resolver fails.
        is_doubted: a provider refused it.
        is_repeated: the resolver returned it again after a provider had refused it.
    """

    said: Answer | Ask | Pass
    asked_at: float
    fresh_until: float
    stale_until: float
    is_doubted: bool = False
    is_repeated: bool = False


class Answers:
    """A cache of one resolver's answers; used under its owner's lock.

    Args:
        ttl: seconds for which an answer is fresh; 0 keeps none.
        stale_if_error: seconds after that for which it stands in while the resolver fails
            (as RFC 5861, section 4, names it).
        keep_all: whether an answer that is never fresh is kept for that alone.
    """

    def __init__(self, *, ttl: float, stale_if_error: float, keep_all: bool = False) -> None:
        self._keep_all = keep_all and stale_if_error > 0
        self._ttl = ttl
        self._stale = stale_if_error
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._refused: OrderedDict[Hashable, tuple[Fault, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def fresh(self, key: Hashable, now: float) -> Kept | None:
        """Return what may be given without asking."""
        kept = self._kept.get(key)
        if kept is None or now >= kept.fresh_until:
            return None
        self._kept.move_to_end(key)
        return kept

    def stale(self, key: Hashable, now: float) -> Kept | None:
        """Return what may be given because asking failed."""
        kept = self._kept.get(key)
        if kept is None or now >= kept.stale_until:
            return None
        return kept

    def keep(self, key: Hashable, said: Answer | Ask | Pass, asked_at: float) -> None:
        """Keep what was said, unless it was asked before what is kept."""
        self._refused.pop(key, None)
        before = self._kept.get(key)
        if before is not None and before.asked_at > asked_at:
            return
        own = said.ttl if isinstance(said, Answer) else None
        ttl = self._ttl if own is None else own
        if not ttl > 0 and (
            own is not None or not self._keep_all
        ):  # not a number is no time either
            self._kept.pop(key, None)
            return
        fresh_until = asked_at + ttl
        is_repeated = before is not None and before.is_doubted and _same(before.said, said)
        self._kept[key] = Kept(
            said, asked_at, fresh_until, fresh_until + self._stale, is_repeated=is_repeated
        )
        self._kept.move_to_end(key)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def doubt(self, value: object, now: float) -> None:
        """Give this value no longer without asking; it still stands in while the resolver fails.

        A resolver that returned the refused value again is not asked for ASK_AGAIN_AFTER seconds.
        """
        for key, kept in self._kept.items():
            if not _same(kept.said, Answer(value)):
                continue
            if not kept.is_repeated or now - kept.asked_at >= ASK_AGAIN_AFTER:
                fresh_until = min(kept.fresh_until, now)
                self._kept[key] = replace(kept, fresh_until=fresh_until, is_doubted=True)

    def refuse(self, key: Hashable, fault: Fault, until: float) -> None:
        """Give this fault for the question until then, without asking."""
        self._refused[key] = (fault, until)
        while len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def refused(self, key: Hashable, now: float) -> Fault | None:
        """Return why this question is not worth asking just now."""
        fault, until = self._refused.get(key, (None, 0.0))
        return fault if now < until else None

    def oldest(self, now: float) -> float | None:
        """Return the seconds since the oldest one was asked for, None when none is kept."""
        return max((now - kept.asked_at for kept in self._kept.values()), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._refused.clear()


def _same(one: Answer | Ask | Pass, other: Answer | Ask | Pass) -> bool:
    """Return whether two answers hold the same value."""
    return isinstance(one, Answer) and isinstance(other, Answer) and one.value == other.value
