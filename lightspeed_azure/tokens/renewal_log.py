"""The token cache's log: a line a renewal, a line a change of state, none a request."""

import logging
from collections.abc import Callable

from lightspeed_azure.errors import TokenError
from lightspeed_azure.tokens.holding import Reception
from lightspeed_azure.tokens.lifetime import MARGIN, Held

type Line = Callable[[], None]
"""Writes one line; called when no lock is held, because a handler may take its time."""


def nothing() -> None:
    """Write no line."""


class RenewalLog:
    """Decides what is worth a line; its methods return it, for the caller to write later."""

    def __init__(self, logger: logging.Logger, name: str) -> None:
        self._logger = logger
        self._name = name
        self._level = logging.INFO

    def failed(self, error: TokenError, held: Held | None, now: tuple[float, float]) -> Line:
        """An attempt failed: a warning when that begins, an error when the end is near.

        Near is MARGIN for tokens that live longer than that; for others, and without a token, when
        none can be used any more.
        """
        remaining = 0.0 if held is None else max(0.0, held.remaining(*now))
        usable = held is not None and held.usable_for(*now) > 0
        near = not usable or (
            held is not None and held.token.lifetime > MARGIN and remaining < MARGIN
        )
        level = logging.ERROR if near else logging.WARNING
        if level <= self._level:
            return nothing
        self._level = level
        if usable:
            return lambda: self._logger.log(
                level,
                "Token for %s cannot be renewed (%s: %s); the current one expires in %.0f s",
                self._name,
                type(error).__name__,
                error,
                remaining,
            )
        return lambda: self._logger.log(
            level, "No token for %s (%s: %s)", self._name, type(error).__name__, error
        )

    def succeeded(self, reception: Reception, held: Held, now: tuple[float, float]) -> Line:
        """A good answer: one line, which says so when it ends a series of failures."""
        recovered = " after failures" if self._level > logging.INFO else ""
        self._level = logging.INFO
        remaining, due = held.remaining(*now), held.due_in(*now)
        if reception == "returned":
            return lambda: self._logger.warning(
                "Token for %s was rejected, and the source gives back the same one; it is used "
                "on, and the source asked again in %.0f s",
                self._name,
                due,
            )
        return lambda: self._logger.info(
            "Token for %s %s%s: expires in %.0f s, renewal due in %.0f s",
            self._name,
            reception,
            recovered,
            remaining,
            due,
        )
