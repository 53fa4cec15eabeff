"""Faults on demand: what an emulator does instead of answering correctly."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "delay", "hang", "reset", "truncated", "not_json", "drip"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a service fails; made by the class methods.

    `status`, `hang`, `reset` and `not_json` replace the answer: no token is issued.
    `delay` comes before it; `truncated` and `drip` damage a correct answer.
    """

    kind: Kind
    code: int = 200
    seconds: float = 0.0
    retry_after: float | str | None = None
    body: str | None = field(default=None, repr=False)

    @classmethod
    def status(
        cls, status: int, retry_after: float | str | None = None, body: str | None = None
    ) -> "Fault":
        """Answer with this HTTP status.

        Args:
            status: such as 429, 500, 503.
            retry_after: the header Retry-After: seconds, or a whole value such as an HTTP date.
            body: sent as it is; None: what the real service says with that status.
        """
        return cls("status", code=status, retry_after=retry_after, body=body)

    @classmethod
    def delay(cls, seconds: float) -> "Fault":
        """Wait this many seconds, then answer as usual."""
        return cls("delay", seconds=seconds)

    @classmethod
    def hang(cls) -> "Fault":
        """Accept the request and never answer; stopping the emulators ends the connection."""
        return cls("hang")

    @classmethod
    def reset(cls) -> "Fault":
        """Reset the TCP connection (RST) when the request has arrived."""
        return cls("reset")

    @classmethod
    def truncated(cls) -> "Fault":
        """Announce the whole body, send half of it, and close the connection."""
        return cls("truncated")

    @classmethod
    def not_json(cls) -> "Fault":
        """Answer 200 with a page of HTML, as a captive portal or a proxy does."""
        return cls("not_json")

    @classmethod
    def drip(cls, seconds_between_bytes: float) -> "Fault":
        """Send the body of the correct answer byte by byte, each before a socket times out."""
        return cls("drip", seconds=seconds_between_bytes)

    @property
    def outcome(self) -> str:
        """How the fault is counted: its status, or its kind."""
        return str(self.code) if self.kind == "status" else self.kind


class FaultQueue:
    """The faults that await one service, first come first served.

    Safe for concurrent use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: deque[tuple[Fault, frozenset[str], int | None]] = deque()  # guarded

    def add(self, fault: Fault, *, times: int | None, on: frozenset[str]) -> None:
        """Apply `fault` to the next `times` requests to an endpoint in `on` (None: until cleared)."""
        if times is not None and times < 1:
            raise ValueError(f"times must be 1 or more, or None; it is {times}")
        with self._lock:
            self._pending.append((fault, on, times))

    def take(self, endpoint: str) -> Fault | None:
        """Return the fault for this request to `endpoint`, and count it as used once."""
        with self._lock:
            for index, (fault, on, times) in enumerate(self._pending):
                if endpoint not in on:
                    continue
                if times == 1:
                    del self._pending[index]
                elif times is not None:
                    self._pending[index] = (fault, on, times - 1)
                return fault
            return None

    def clear(self) -> None:
        """Drop every pending fault."""
        with self._lock:
            self._pending.clear()
