"""One HTTP request and its answer, as the emulators see them: free of any server library.

Header values and bodies carry tokens and secrets, so neither appears in a `repr`.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from lightspeed_azure.emulators.faults import Fault


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
class Answer:
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
    ) -> "Answer":
        """Return `value` as a JSON answer."""
        return cls(status=status, body=json.dumps(value).encode(), headers=headers or {})


@dataclass(frozen=True, slots=True)
class Handling:
    """How one request is to be dealt with: the fault that strikes it, and the honest answer.

    `respond` is called at most once, and never when the fault takes the answer's place.
    """

    fault: Fault | None
    respond: Callable[[], Answer] = field(repr=False)


class Service(Protocol):
    """One emulated service. `receive` is called on the servers' thread, and must not wait."""

    @property
    def name(self) -> str:
        """What the service is called in logs."""

    def receive(self, request: Request) -> Handling:
        """Count the request, judge it at this moment, and say how to deal with it."""

    def refusal(self, fault: Fault) -> Answer:
        """Return the body that the real service sends with the status of `fault`."""
