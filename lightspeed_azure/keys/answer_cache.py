"""The cached answers of one resolver: returned while fresh, and while the resolver fails."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from lightspeed_azure.keys.hook_call import Answer, Pass, ResolverError, Rewrite

MOST = 1024
"""Entries for one resolver; the least recently used one goes first."""

ASK_AGAIN_AFTER = 1.0
"""Seconds until a resolver is asked again that returned an invalidated key once more."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cached result; times are monotonic seconds.

    Attributes:
        result: what the resolver returned.
        asked_at: when it was asked.
        fresh_until: until then the result is returned without asking.
        stale_until: until then it is returned while the resolver fails.
        is_invalidated: a provider refused the key.
        is_repeated: the resolver returned the key again after it was invalidated.
    """

    result: Answer | Rewrite | Pass
    asked_at: float
    fresh_until: float
    stale_until: float
    is_invalidated: bool = False
    is_repeated: bool = False


class AnswerCache:
    """The cache of one resolver, with a negative cache; used under its owner's lock.

    Args:
        ttl: seconds for which a result is fresh; 0 caches nothing.
        stale_if_error: seconds after that for which it is returned while the resolver fails
            (the name is from RFC 5861, section 4).
        keep_all: whether results that are never fresh are kept for `stale_if_error`.
    """

    def __init__(self, *, ttl: float, stale_if_error: float, keep_all: bool = False) -> None:
        self._keep_all = keep_all and stale_if_error > 0
        self._ttl = ttl
        self._stale = stale_if_error
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._negative: OrderedDict[Hashable, tuple[ResolverError, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: Hashable, now: float) -> Answer | Rewrite | Pass | None:
        """Return what can be used without asking."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry.result

    def stale(self, key: Hashable, now: float) -> Answer | Rewrite | Pass | None:
        """Return what can be used because asking failed."""
        entry = self._entries.get(key)
        return None if entry is None or now >= entry.stale_until else entry.result

    def put(self, key: Hashable, result: Answer | Rewrite | Pass, asked_at: float) -> None:
        """Cache a result, unless the cached one was asked for later."""
        self._negative.pop(key, None)
        before = self._entries.get(key)
        if before is not None and before.asked_at > asked_at:
            return
        own = result.ttl if isinstance(result, Answer) else None
        ttl = self._ttl if own is None else own
        # `not ttl > 0` is true of NaN too.
        if not ttl > 0 and (own is not None or not self._keep_all):
            self._entries.pop(key, None)
            return
        fresh_until = asked_at + ttl
        is_repeated = before is not None and before.is_invalidated and _same(before.result, result)
        self._entries[key] = _Entry(
            result, asked_at, fresh_until, fresh_until + self._stale, is_repeated=is_repeated
        )
        self._entries.move_to_end(key)
        while len(self._entries) > MOST:
            self._entries.popitem(last=False)

    def invalidate(self, value: object, now: float) -> None:
        """Ask again before this value is used; it is still returned while the resolver fails.

        A resolver that returned the value again is not asked for ASK_AGAIN_AFTER seconds.
        """
        for key, entry in self._entries.items():
            if not _same(entry.result, Answer(value)):
                continue
            if not entry.is_repeated or now - entry.asked_at >= ASK_AGAIN_AFTER:
                fresh_until = min(entry.fresh_until, now)
                self._entries[key] = replace(entry, fresh_until=fresh_until, is_invalidated=True)

    def put_error(self, key: Hashable, error: ResolverError, until: float) -> None:
        """Return this error for the call until then, without asking."""
        self._negative[key] = (error, until)
        while len(self._negative) > MOST:
            self._negative.popitem(last=False)

    def error(self, key: Hashable, now: float) -> ResolverError | None:
        """Return the cached error of a call."""
        error, until = self._negative.get(key, (None, 0.0))
        return error if now < until else None

    def oldest(self, now: float) -> float | None:
        """Return the age of the oldest entry in seconds; None without one."""
        return max((now - entry.asked_at for entry in self._entries.values()), default=None)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self._negative.clear()


def _same(one: Answer | Rewrite | Pass, other: Answer | Rewrite | Pass) -> bool:
    return isinstance(one, Answer) and isinstance(other, Answer) and one.value == other.value
