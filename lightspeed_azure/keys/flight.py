"""One question to one resolver, asked once for all callers who wait for the answer."""

from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.keys.fault import Fault
from lightspeed_azure.keys.reply import Reply


class Flight(SingleFlight[Reply]):
    """One question to one resolver.

    Args:
        asked_at: monotonic seconds at which it began.
        deadline: monotonic seconds at which the waiters are released.

    Attributes:
        timeout: seconds between the two.
    """

    def __init__(self, *, asked_at: float, deadline: float) -> None:
        super().__init__(deadline)
        self.asked_at = asked_at
        self.timeout = deadline - asked_at

    @property
    def reply(self) -> Reply:
        """The reply, once it is done; before that, that there was none in time."""
        return _NONE_IN_TIME if self.result is None else self.result


_NONE_IN_TIME = Fault("timeout", "did not answer in time", True)
