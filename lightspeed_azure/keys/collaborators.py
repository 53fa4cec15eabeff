"""What the hook works with; each of them can be injected."""

from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.threads import start_daemon_thread
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler
from lightspeed_azure.keys.workers import Launch


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Clock, scheduler, and what starts a named daemon thread."""

    clock: Clock = SYSTEM_CLOCK
    scheduler: Scheduler = TIMER_THREAD
    launch: Launch = start_daemon_thread
