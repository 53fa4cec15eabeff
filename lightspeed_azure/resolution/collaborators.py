"""What the hook works with; each of them can be injected."""

from dataclasses import dataclass

from lightspeed_azure.resolution.workers import Launch
from lightspeed_azure.token_cache.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.token_cache.scheduler import TIMER_THREAD, Scheduler
from lightspeed_azure.token_cache.threads import start_daemon_thread


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Clock, scheduler, and what starts a named daemon thread."""

    clock: Clock = SYSTEM_CLOCK
    scheduler: Scheduler = TIMER_THREAD
    launch: Launch = start_daemon_thread
