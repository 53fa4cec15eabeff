"""The managed-identity endpoint of a virtual machine (IMDS).

https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token

It differs from Entra ID where it hurts: all values are strings, ``expires_on`` is absolute by
the service's clock, and the same token comes back until it is nearly used up.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lightspeed_azure.emulators.directory import Application
from lightspeed_azure.emulators.entra import EntraEmulator
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.service import Emulator, Handling, Request, Response
from lightspeed_azure.emulators.tokens import IssuedToken

_PATH = "/metadata/identity/oauth2/token"
_TENTH = 0.1
_SELECTORS = {
    "client_id": "client_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """A managed identity that is assigned to the emulated machine.

    Args:
        client_id, object_id, resource_id: the three names by which it can be asked for.
        system: whether it is the machine's own (system-assigned), which is asked for by none.
    """

    client_id: str = field(default_factory=_new_id)
    object_id: str = field(default_factory=_new_id)
    resource_id: str = field(
        default_factory=lambda: (
            f"/subscriptions/{_new_id()}/resourcegroups/emulated/providers"
            f"/Microsoft.ManagedIdentity/userAssignedIdentities/{uuid.uuid4().hex[:8]}"
        )
    )
    system: bool = False


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


class _ImdsError(Exception):
    def __init__(self, error: str, text: str) -> None:
        super().__init__(error)
        self.error = error
        self.text = text


class ImdsEmulator(Emulator):
    """Stands in for ``http://169.254.169.254``.

    Safe for concurrent use; everything may be changed while it serves.

    Args:
        entra: issues the tokens, for its default tenant and with its token lifetime.
        clock: seconds since the epoch, as the service sees them.

    Attributes:
        endpoint: "http://127.0.0.1:PORT".
        identities: the identities of the machine; by default one system-assigned and one user-assigned.
        renewal_margin: seconds before its end when a token stops being repeated; never more
            than a tenth of its lifetime, so that tokens of a few seconds work too.
    """

    name = "IMDS"

    def __init__(self, *, entra: EntraEmulator, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._entra = entra
        self.endpoint = ""
        self.reset()

    def __repr__(self) -> str:
        return f"ImdsEmulator(endpoint={self.endpoint!r}, identities={len(self.identities)})"

    def reset(self) -> None:
        """Reset: other identities, no tokens kept, no faults, counters at 0."""
        with self._lock:
            self.identities: tuple[ManagedIdentity, ...] = (
                ManagedIdentity(system=True),
                ManagedIdentity(),
            )
            self.renewal_margin = 300.0
            self._kept: dict[tuple[str, str], IssuedToken] = {}
            self._reset()

    @property
    def requests(self) -> ImdsRequests:
        """The counters as they stand."""
        tally = self._ledger.snapshot()
        return ImdsRequests(
            requested=tally.of("requested"),
            issued=tally.of("issued"),
            by_identity=tally.by("by_identity"),
            by_outcome=tally.by("by_outcome"),
        )

    def fault(self, fault: Fault, *, times: int | None = None) -> None:
        """Apply `fault` to the next `times` requests (None: all, until `clear_faults`)."""
        self._faults.add(fault, times=times, on=frozenset({"token"}))

    def receive(self, request: Request) -> Handling:
        """Count the request, and return how to answer it."""
        if request.path.rstrip("/") != _PATH:
            return Handling(None, lambda: Response.of({"error": "Not found"}, status=404))
        self._ledger.count("requested")
        fault = self._faults.take("token")
        if fault is not None and fault.kind in {"status", "hang", "reset", "not_json"}:
            self._ledger.count(by_outcome=fault.outcome)
        return Handling(fault, lambda: self._token(request))

    def refusal(self, fault: Fault) -> Response:
        """Return what IMDS says when it is overloaded, restarting or out of order."""
        errors = {
            404: ("not_found", "IMDS endpoint is updating"),
            410: ("gone", "IMDS is going through updates"),
            429: ("too_many_requests", "Too many requests"),
        }
        error, text = errors.get(
            fault.code, ("unknown", "Failed to retrieve token from the Active directory")
        )
        return Response.of({"error": error, "error_description": text})

    def _token(self, request: Request) -> Response:
        try:
            identity, resource = self._read(request)
        except _ImdsError as error:
            self._ledger.count(by_outcome=error.error)
            return Response.of({"error": error.error, "error_description": error.text}, status=400)
        self._ledger.count(by_outcome="200", by_identity=identity.client_id)
        token = self._current(identity, resource)
        left = max(0, int(token.expires_at) - int(self._clock()))
        return Response.of(
            {
                "access_token": token.value,
                "client_id": identity.client_id,
                "expires_in": str(left),
                "expires_on": str(int(token.expires_at)),
                "ext_expires_in": str(left),
                "not_before": str(int(token.issued_at)),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def _read(self, request: Request) -> tuple[ManagedIdentity, str]:
        """Return the identity that is asked for, and the resource."""
        headers, query = request.headers, request.query
        if headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in headers:
            raise _ImdsError("bad_request_102", "Required metadata header not specified")
        if not query.get("api-version"):
            text = "Required query variable 'api-version' is missing"
            raise _ImdsError("invalid_request", text)
        if not query.get("resource"):
            raise _ImdsError("invalid_request", "Required query variable 'resource' is missing")
        return self._identity({name: query[name] for name in _SELECTORS if name in query}), query[
            "resource"
        ]

    def _identity(self, asked: dict[str, str]) -> ManagedIdentity:
        identities = self.identities
        if not asked:
            own = [each for each in identities if each.system] or list(identities)
            if len(own) > 1:
                raise _ImdsError(
                    "invalid_request",
                    "Multiple user assigned identities exist, please specify the clientId /"
                    " resourceId of the identity in the token request",
                )
            identities = tuple(own)
        for each in identities:
            if all(
                getattr(each, _SELECTORS[name]).lower() == value.lower()
                for name, value in asked.items()
            ):
                return each
        raise _ImdsError("invalid_request", "Identity not found")

    def _current(self, identity: ManagedIdentity, resource: str) -> IssuedToken:
        """Return the kept token, or a new one when that is nearly used up."""
        with self._lock:
            kept = self._kept.get((identity.client_id, resource))
            if kept is not None:
                margin = min(self.renewal_margin, (kept.expires_at - kept.issued_at) * _TENTH)
                if self._clock() < kept.expires_at - margin:
                    return kept
            application = Application(tenant_id=self._entra.tenant_id, client_id=identity.client_id)
            token = self._entra.issue(resource=resource, application=application, proof="2")
            self._kept[identity.client_id, resource] = token
        self._ledger.count("issued")
        return token
