"""What every emulated service has: a clock, faults on demand, and a count of what was asked."""

import threading
from collections.abc import Callable

from lightspeed_azure.emulators.faults import FaultQueue
from lightspeed_azure.emulators.ledgers import Ledger


class Emulated:
    """A service that misbehaves when it is asked to.

    Args:
        clock: seconds since the epoch, as the service sees them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._faults = FaultQueue()

    def clear_faults(self) -> None:
        """Be well again."""
        self._faults.clear()

    def _begin_anew(self) -> None:
        """Have no faults, and counters at nought."""
        self._faults.clear()
        self._ledger.clear()
