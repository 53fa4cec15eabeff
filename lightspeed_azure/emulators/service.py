"""One emulated service: what it receives and answers, its faults, and what it counts.

Free of any server library. Header values and bodies carry tokens and secrets, so neither appears in
a `repr`. Counters hold none: tokens appear in them as fingerprints.
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from lightspeed_azure.emulators.faults import Fault, FaultQueue


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent.

    Args:
        method: in capitals.
        path: decoded, without the query.
        query: the last value of each parameter.
        headers: names in lower case.
        body: whole.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def form(self) -> dict[str, str]:
        """Return the fields of an urlencoded form; of a repeated field the last counts."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def basic(self) -> dict[str, str]:
        """Return client id and secret from HTTP Basic (RFC 6749, section 2.3.1), or {}."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return {}
        try:
            name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return {}
        return {"client_id": unquote(name), "client_secret": unquote(secret)}

    def bearer(self) -> str:
        """Return the bearer token (RFC 6750), or ""."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if kind.lower() == "bearer" else ""

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body; {} when it is anything else."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Response:
    """What the emulator sends back: one body, or `chunks` with `interval` seconds between them."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    chunks: tuple[bytes, ...] = field(default=(), repr=False)
    interval: float = 0.0

    @classmethod
    def of(
        cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> "Response":
        """Return `value` as a JSON answer."""
        return cls(status=status, body=json.dumps(value).encode(), headers=headers or {})


@dataclass(frozen=True, slots=True)
class Handling:
    """How to answer one request: its fault, and the correct answer.

    `respond` is called at most once, and never when the fault replaces the answer.
    """

    fault: Fault | None
    respond: Callable[[], Response] = field(repr=False)


class EmulatedService(Protocol):
    """One emulated service. `receive` is called on the servers' thread, and must not wait."""

    @property
    def name(self) -> str:
        """What the service is called in logs."""

    def receive(self, request: Request) -> Handling:
        """Count the request, judge it now, and return how to answer it."""

    def refusal(self, fault: Fault) -> Response:
        """Return the body that the real service sends with the status of `fault`."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The counters of a ledger at one moment."""

    counts: Mapping[tuple[str, str], int]

    def of(self, name: str) -> int:
        """Return a counter without label; 0 when it was never counted."""
        return self.counts.get((name, ""), 0)

    def by(self, name: str) -> Mapping[str, int]:
        """Return a labelled counter, by label."""
        return MappingProxyType(
            {label: number for (each, label), number in self.counts.items() if each == name}
        )


class Ledger:
    """Named counters, some with labels. Safe for concurrent use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, *names: str, **labelled: str) -> None:
        """Add one to each of `names`, and to each label, all in one step."""
        with self._lock:
            self._counts.update((name, "") for name in names)
            self._counts.update(labelled.items())

    def snapshot(self) -> Tally:
        """Return the counters as they stand."""
        with self._lock:
            return Tally(dict(self._counts))

    def clear(self) -> None:
        """Set all counters to 0."""
        with self._lock:
            self._counts.clear()


class Emulator:
    """A service that fails on demand.

    Args:
        clock: seconds since the epoch, as the service sees them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._faults = FaultQueue()

    def clear_faults(self) -> None:
        """Drop all faults."""
        self._faults.clear()

    def _reset(self) -> None:
        """Drop all faults, and set the counters to 0."""
        self._faults.clear()
        self._ledger.clear()
