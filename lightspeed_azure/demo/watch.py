"""What happens in one mode of the demo, gathered from both ends while it happens."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from lightspeed_azure.demo.crowd import Tally
from lightspeed_azure.emulators import AzureRequests, Emulators

INTERVAL = 0.25
"""Seconds between two looks."""


@dataclass
class Watch:
    """One mode as it runs.

    Attributes:
        mode: "library" or "service".
        tally: the questions, as the asking side counts them.
        token: the token's state, as the example service's readiness probe tells it.
        history: questions a second, the latest last.
    """

    mode: str
    emulators: Emulators
    seconds: float
    tally: Tally = field(default_factory=Tally)
    token: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    history: deque[int] = field(default_factory=lambda: deque(maxlen=40))

    def __post_init__(self) -> None:
        self._before: AzureRequests = self.emulators.azure.requests
        self._issued_before: int = self.emulators.entra.requests.issued

    @property
    def elapsed(self) -> float:
        """Seconds since the first question."""
        return time.monotonic() - self.started

    @property
    def tokens_seen(self) -> int:
        """How many different tokens the Azure endpoint accepted in this mode."""
        before = self._before.accepted_by_token
        now = self.emulators.azure.requests.accepted_by_token
        return sum(1 for token, count in now.items() if count > before.get(token, 0))

    @property
    def accepted(self) -> int:
        """Requests that the Azure endpoint accepted."""
        return self.emulators.azure.requests.accepted - self._before.accepted

    @property
    def rejected(self) -> int:
        """Requests that the Azure endpoint rejected."""
        return self.emulators.azure.requests.rejected - self._before.rejected

    @property
    def issued(self) -> int:
        """Tokens that Entra ID issued."""
        return self.emulators.entra.requests.issued - self._issued_before

    @property
    def waits(self) -> int:
        """Requests that waited for a token, the first one of the mode included."""
        return int(self.token.get("waits", 0))

    async def look(self, service: str, show: Callable[["Watch"], None]) -> None:
        """Look at the service and show what is seen, until cancelled."""
        async with httpx.AsyncClient(base_url=service, timeout=10, trust_env=False) as client:
            asked = 0
            while True:
                await self.glance(client)
                self.history.append(self.tally.asked - asked)
                asked = self.tally.asked
                show(self)
                await asyncio.sleep(INTERVAL)

    async def glance(self, client: httpx.AsyncClient) -> None:
        """Take one look at the token's state in the service."""
        try:
            tokens = (await client.get("/readyz")).json()["tokens"]
        except (httpx.HTTPError, ValueError, KeyError):
            return
        self.token = tokens[0] if tokens else {}
