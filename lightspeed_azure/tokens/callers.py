"""What a caller gets who finds no fresh token: one at once, or a flight to wait for."""

import asyncio
import contextlib
import math

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.errors import TokenError
from lightspeed_azure.tokens.flight import Flight
from lightspeed_azure.tokens.lifetime import Held, Token
from lightspeed_azure.tokens.renewals import Renewals

MOST_NEEDED = 0.4
"""Share of a token's lifetime that a caller may ask to be left of it.

Less than the half at which renewals begin, so that whoever asks for so much finds a new token.
"""


class Callers:
    """Serves the callers of one cache; safe for any number of threads and event loops at once.

    Args:
        renewals: what brings tokens.
        clock: gives the time.
    """

    def __init__(self, renewals: Renewals, clock: Clock) -> None:
        self._renewals = renewals
        self._holding = renewals.holding
        self._clock = clock

    def wait(self, need: float, *, renew: bool) -> Token:
        """Return a valid token; waits on this thread where none is at hand.

        Args:
            need: seconds of life that are wanted.
            renew: whether a valid token will not do.

        Raises:
            TokenError: none can be had.
        """
        until = math.inf
        seen: Flight | None = None
        while True:
            answer = self._decide(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
                if not renew:  # who asks for a renewal wants to wait
                    self._renewals.count_wait()
            bound = min(answer.deadline, until)
            in_time = answer.wait(max(0.0, bound - self._clock.monotonic()))
            if not in_time and bound == answer.deadline:
                self._renewals.abandon(answer)
            seen = answer

    async def wait_async(self, need: float, *, renew: bool) -> Token:
        """Do what `wait` does without holding up the event loop."""
        until = math.inf
        seen: Flight | None = None
        while True:
            answer = self._decide(need, renew=renew, seen=seen, until=until)
            if isinstance(answer, Token):
                return answer
            if seen is None:
                until = answer.deadline
                if not renew:  # who asks for a renewal wants to wait
                    self._renewals.count_wait()
                await self._wait_async(answer)
            else:
                left = max(0.0, until - self._clock.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._wait_async(answer)
            seen = answer

    async def _wait_async(self, flight: Flight) -> None:
        """Wait for a flight until its deadline, even if the timer thread is late or missing."""
        while (left := flight.deadline - self._clock.monotonic()) > 0:
            if await flight.wait_async(left):
                return
        self._renewals.abandon(flight)

    def _decide(
        self, need: float, *, renew: bool, seen: Flight | None, until: float
    ) -> Token | Flight:
        """Return the token to serve, or the flight to wait for.

        Args:
            need: seconds of life that are wanted.
            renew: whether a valid token will not do.
            seen: the flight that has been waited for.
            until: monotonic seconds at which to wait no longer.
        """
        while True:
            self._holding.used = True
            wall, mono = self._clock.wall(), self._clock.monotonic()
            held = self._holding.held
            valid = held is not None and held.zone(wall, mono) != "expired"
            if seen is not None and seen.error is not None and (renew or not valid):
                raise seen.error.replica(retry_after=self._renewals.backoff.ends_in(mono)) from None
            if held is not None and valid:
                wanted = seen is None and (renew or not _lasts(held, need, wall, mono))
                if not wanted:
                    self._attend(held, wall, mono)
                    return held.token
            if seen is not None and mono >= until:
                raise self._renewals.no_answer()
            try:
                flight = self._renewals.board(held)
            except TokenError:
                if held is None or not valid or renew:
                    raise
                return held.token
            if flight is not None:
                return flight

    def _attend(self, held: Held, wall: float, mono: float) -> None:
        """Do what is due around a valid token that is being served."""
        if held.zone(wall, mono) == "stale":
            self.renew_behind(held)
        elif held.gate_mono == -math.inf:
            with self._renewals.lock:
                if self._holding.held is held:
                    self._holding.held = held.ungated()
                    self._renewals.arm()

    def renew_behind(self, held: Held | None) -> None:
        """Start a renewal if none runs and none is forbidden; never waits."""
        renewals = self._renewals
        if renewals.flight is None and not renewals.backoff.resting(self._clock.monotonic()):
            with contextlib.suppress(TokenError):
                renewals.board(held)


def _lasts(held: Held, need: float, wall: float, mono: float) -> bool:
    """Return whether it lives `need` seconds more, or nothing that does is to be had."""
    if need <= 0 or (held.insisted and held.zone(wall, mono) == "fresh"):
        return True
    return held.remaining(wall, mono) >= min(need, held.token.lifetime * MOST_NEEDED)
