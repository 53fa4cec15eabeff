"""A value worked out from the token once, and read as cheaply as the token itself."""

from collections.abc import Callable
from typing import Protocol

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.tokens.holding import Holding
from lightspeed_azure.tokens.lifetime import Held, Token


class Tokens(Protocol):
    """What gives the tokens: a `TokenCache`."""

    def get(self) -> Token:
        """Return a valid token."""
        ...

    async def aget(self) -> Token:
        """Return a valid token."""
        ...


class Derived[T]:
    """What `make` makes of a cache's token, such as a header value; made once for each token.

    Safe for use by any number of threads and event loops at once. `TokenCache.derived` makes one.
    """

    __slots__ = ("_cache", "_holding", "_last", "_made", "_make", "_monotonic", "_wall")

    def __init__(
        self, cache: Tokens, holding: Holding, clock: Clock, make: Callable[[Token], T]
    ) -> None:
        self._cache = cache
        self._holding = holding
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._make = make
        # Each is replaced as a whole, so that a reader without a lock sees what belongs together.
        self._last: tuple[Held | None, T | None] = None, None
        self._made: tuple[Token, T] | None = None

    def get(self) -> T:
        """Return the value for a valid token; waits and raises as `TokenCache.get` does."""
        held, value = self._last
        holding = self._holding
        if (
            held is not None
            and held is holding.held
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            holding.used = True
            return value  # type: ignore[return-value]  # made together with `held`
        return self.of(self._cache.get())

    async def aget(self) -> T:
        """Do what `get` does without holding up the event loop."""
        held, value = self._last
        holding = self._holding
        if (
            held is not None
            and held is holding.held
            and self._wall() < held.gate_wall
            and self._monotonic() < held.gate_mono
        ):
            holding.used = True
            return value  # type: ignore[return-value]  # made together with `held`
        return self.of(await self._cache.aget())

    def of(self, token: Token) -> T:
        """Return the value for a token of the cache."""
        made = self._made
        if made is None or made[0] is not token:
            made = self._made = token, self._make(token)
        held = self._holding.held
        if held is not None and held.token is token:
            self._last = held, made[1]
        return made[1]
