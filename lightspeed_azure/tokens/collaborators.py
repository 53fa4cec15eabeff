"""What a token cache works with; each of them can be injected."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.concurrency.timer import Scheduler
from lightspeed_azure.tokens.source import TokenSource


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What the renewals work with; `TokenCache` describes each."""

    source: TokenSource
    name: str
    deadline: float
    clock: Clock
    scheduler: Scheduler
    launch: Callable[[str, Callable[[], None]], None]
    random: Callable[[], float]
    logger: logging.Logger
    hang: Callable[[], tuple[str, str] | None]
