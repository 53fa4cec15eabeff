"""Conditions as Kubernetes writes them: what is true of a thing, why, and since when.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

type Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What is true now.

    Attributes:
        type: of what; CamelCase, such as `LLMProxyReady`.
        status: whether it is true.
        reason: why, for programs; CamelCase.
        message: why, and what to do, for people; never a secret.
    """

    type: str
    status: Truth
    reason: str
    message: str


class Conditions:
    """Remembers since when each condition has had its status; for use on one thread.

    Args:
        clock: POSIX seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, tuple[Truth, str]] = {}

    def observe(self, conditions: Iterable[Condition]) -> list[dict[str, str]]:
        """Return the conditions as JSON has them; the time changes only with the status."""
        shown = []
        for condition in conditions:
            status, since = self._since.get(condition.type, (None, ""))
            if status != condition.status:
                since = timestamp(self._clock())
                self._since[condition.type] = (condition.status, since)
            shown.append(
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": since,
                }
            )
        return shown


def timestamp(seconds: float) -> str:
    """Return a moment as Kubernetes writes it: RFC 3339, in UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
