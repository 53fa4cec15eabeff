"""Is it alive, has it started, should it get requests: answered from memory alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lightspeed_azure.metrics.states import Credential
from lightspeed_azure.tokens.manager import AzureEntraIDManager

type Told = tuple[int, dict[str, Any]]
"""An HTTP status, and the JSON that says why."""


@dataclass(slots=True)
class Probes:
    """What probes are told. Nothing here waits or asks anybody.

    Attributes:
        manager: the identities whose tokens are needed.
        keys: tells the states of other providers' keys.
        draining: no new requests are wanted.
    """

    manager: AzureEntraIDManager
    keys: Callable[[], Iterable[Credential]] = tuple
    draining: bool = field(default=False)

    def live(self) -> Told:
        """Return 200: whoever answers lives."""
        return 200, {"status": "ok"}

    def started(self) -> Told:
        """Return 200 once each identity's first token has come, or was refused."""
        waiting = [
            each.name for each in self.manager.status() if not each.renewals and not each.failures
        ]
        if waiting:
            return 503, {"status": "starting", "waiting_for": waiting}
        return 200, {"status": "ok"}

    def ready(self) -> Told:
        """Return 200 while there is a usable token or key, or none is needed; 503 when draining.

        A probe starts the renewals that are due: without requests nobody else would, and without a
        token no request would ever come.
        """
        if self.draining:
            return 503, {"status": "draining"}
        self.manager.renew_if_due()
        keys = tuple(self.keys())
        usable = [each.cache.peek() is not None for each in self.manager.identities]
        usable += [key.has_value for key in keys]
        if not usable:
            return 200, {"status": "ok"}
        failing = [status.name for status in self.manager.status() if status.consecutive_failures]
        failing += [key.provider_id or key.provider_type or "any" for key in keys if key.fault]
        if not any(usable):
            return 503, {"status": "no token", "failing": failing}
        if failing or not all(usable):
            return 200, {"status": "degraded", "failing": failing}
        return 200, {"status": "ok"}
