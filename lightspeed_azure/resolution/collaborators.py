"""What the hook works with; each of them can be injected."""

from dataclasses import dataclass

from lightspeed_azure.resolution.workers import Launch
from lightspeed_azure.token_cache.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.token_cache.flight import start_daemon_thread
from lightspeed_azure.token_cache.scheduler import TIMER_THREAD, Scheduler


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Clock, scheduler, and what starts a named daemon thread."""

    clock: Clock = SYSTEM_CLOCK
    scheduler: Scheduler = TIMER_THREAD
    launch: Launch = start_daemon_thread
