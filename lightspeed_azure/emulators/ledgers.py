"""What the emulators were asked: counters, handed out as snapshots that never change.

No snapshot holds a token or a secret: tokens appear as fingerprints.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class EntraRequests:
    """What Entra ID was asked.

    Args:
        requested: requests to the token endpoint, faults included.
        issued: tokens handed to the token endpoint's clients.
        by_grant: issued tokens by proof: client_secret, certificate, federated.
        by_outcome: token requests by outcome: "200", an AADSTS code, a fault's status or kind.
        discovery: requests for OpenID configuration and instance metadata.
        jwks: requests for the signing keys.
    """

    requested: int
    issued: int
    by_grant: Mapping[str, int]
    by_outcome: Mapping[str, int]
    discovery: int
    jwks: int


@dataclass(frozen=True, slots=True)
class ImdsRequests:
    """What the managed-identity endpoint was asked.

    Args:
        requested: token requests, faults included.
        issued: *different* tokens: the endpoint repeats one until it is nearly used up.
        by_identity: token requests by the client id of the identity that answered.
        by_outcome: token requests by outcome: "200", an error code, a fault's status or kind.
    """

    requested: int
    issued: int
    by_identity: Mapping[str, int]
    by_outcome: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AzureRequests:
    """What Azure OpenAI was asked.

    Args:
        total: all requests; accepted + rejected.
        accepted: requests whose credential was good, whatever became of them afterwards.
        rejected: requests answered with 401.
        faulted: accepted requests that a fault struck.
        by_reason: rejected requests: missing, bad signature, wrong audience, wrong issuer,
            expired, revoked.
        by_token: requests by the fingerprint of their bearer token, good or not.
        accepted_by_token: the same, accepted ones only.
        by_path: requests by path below ``/openai/v1``, such as "/chat/completions".
        by_model: accepted requests by the deployment they name.
    """

    total: int
    accepted: int
    rejected: int
    faulted: int
    by_reason: Mapping[str, int]
    by_token: Mapping[str, int]
    accepted_by_token: Mapping[str, int]
    by_path: Mapping[str, int]
    by_model: Mapping[str, int]


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

    def snapshot(self) -> "Tally":
        """Return the counters as they stand."""
        with self._lock:
            return Tally(dict(self._counts))

    def clear(self) -> None:
        """Start from nought."""
        with self._lock:
            self._counts.clear()


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
