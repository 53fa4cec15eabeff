"""A fault that lasts is told again, louder the longer it lasts."""

import logging
import time
from collections.abc import Callable

LOUDER = ((300.0, logging.WARNING), (3_600.0, logging.ERROR))
"""Seconds that a fault has lasted → how loud it is told then; from the last on every hour."""


class Aging:
    """What is known of one source: whether it is well, and since when not.

    Args:
        name: what to call it.
        logger: where the lines go.
        monotonic: gives seconds.

    Attributes:
        fault: what is wrong with it now, or "".
        failures: how often it had no new value when asked.
    """

    def __init__(
        self, name: str, logger: logging.Logger, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.fault = ""
        self.failures = 0
        self._name = name
        self._logger = logger
        self._monotonic = monotonic
        self._good_at: float | None = None
        self._since: float | None = None
        self._told = 0

    @property
    def age(self) -> float | None:
        """Seconds since its value was last known to be current; None when it never was."""
        return None if self._good_at is None else max(0.0, self._monotonic() - self._good_at)

    def note(self, fault: str, *, told: bool = False) -> None:
        """Take down how it is now.

        Args:
            fault: what is wrong, or "".
            told: whether somebody else has told of it when it began.
        """
        now = self._monotonic()
        self.fault = fault
        if not fault:
            self._good_at, self._since, self._told = now, None, 0
            return
        self.failures += 1
        if self._since is None:
            self._since = now
            if not told:
                self._logger.warning("%s: %s", self._name, fault)
            return
        lasted = now - self._since
        due = self._due()
        if lasted >= due[0]:
            while lasted >= self._due()[0]:
                self._told += 1
            self._logger.log(
                due[1],
                "%s has had no good value for %.0f min: %s",
                self._name,
                lasted / 60,
                fault,
            )

    def _due(self) -> tuple[float, int]:
        if self._told < len(LOUDER):
            return LOUDER[self._told]
        after, level = LOUDER[-1]
        return after * (self._told - len(LOUDER) + 2), level
