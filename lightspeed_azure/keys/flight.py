"""One question to one resolver under way, and everybody who waits for it."""

import threading

from lightspeed_azure.keys.fault import Fault
from lightspeed_azure.keys.reply import Reply
from lightspeed_azure.tokens import flight


class Flight(flight.Flight):
    """A question under way: settled once, by the resolver's reply or at the deadline.

    Args:
        asked_at: monotonic seconds at which it began.
        deadline: monotonic seconds at which the waiters are let go.

    Attributes:
        reply: what came of it, once settled.
        timeout: seconds between the two.
    """

    def __init__(self, *, asked_at: float, deadline: float) -> None:
        super().__init__(deadline=deadline, previous=None)
        self.asked_at = asked_at
        self.timeout = deadline - asked_at
        self.reply: Reply | None = None
        self._once = threading.Lock()

    def land(self, reply: Reply) -> bool:
        """Let all waiters go with this reply; return whether it was the first."""
        with self._once:
            if self.reply is not None:
                return False
            self.reply = reply
        if self.timer is not None:
            self.timer.cancel()
        self.settle(None)
        return True

    @property
    def landed(self) -> bool:
        """Whether it is settled."""
        return self.reply is not None

    def result(self) -> Reply:
        """Return the reply; only after waiting for it."""
        return self.reply if self.reply is not None else _LOST


_LOST = Fault("timeout", "did not answer in time", True)
