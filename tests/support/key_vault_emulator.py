"""Azure Key Vault: returns its secrets to requests with a good Entra ID token for it.

https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret,
https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lightspeed_azure.emulators.entra import EntraEmulator
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.service import Emulator, Handling, Request, Response, Tally
from lightspeed_azure.emulators.tokens import TokenRefusedError

RESOURCE = "https://vault.azure.net"


@dataclass(slots=True)
class _Secret:
    versions: dict[str, str] = field(default_factory=dict, repr=False)  # the last is current
    enabled: bool = True


class KeyVaultEmulator(Emulator):
    """Stands in for ``https://{vault}.vault.azure.net``; safe for concurrent use.

    Args:
        entra: issues and judges the tokens.
        clock: seconds since the epoch.

    Attributes:
        endpoint: "https://localhost:PORT".
        resource: what the challenge says a token must be for.
        readers: client ids that may read; None: every application of the tenant.
    """

    name = "Key Vault"

    def __init__(self, *, entra: EntraEmulator, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._entra = entra
        self.endpoint = ""
        self.reset()

    def __repr__(self) -> str:
        return f"KeyVaultEmulator(endpoint={self.endpoint!r})"

    def reset(self) -> None:
        """Reset: no secrets, no faults, counters at 0."""
        with self._lock:
            self.resource = RESOURCE
            self.readers: frozenset[str] | None = None
            self._secrets: dict[str, _Secret] = {}
            self._reset()

    def write(self, name: str, value: str) -> str:
        """Add a version of a secret and return its id, 32 hex digits."""
        version = uuid.uuid4().hex
        with self._lock:
            self._secrets.setdefault(name.lower(), _Secret()).versions[version] = value
        return version

    def disable(self, name: str) -> None:
        """Switch a secret off."""
        with self._lock:
            self._secrets[name.lower()].enabled = False

    def fault(self, fault: Fault, *, times: int | None = None) -> None:
        """Apply `fault` to the next `times` requests that carry a token (None: all)."""
        self._faults.add(fault, times=times, on=frozenset({"secrets"}))

    @property
    def requests(self) -> Tally:
        """The counters: `of("challenged" | "read")`, `by("status")`, `by("secret")`."""
        return self._ledger.snapshot()

    def receive(self, request: Request) -> Handling:
        """Judge the token now, count the request, and return how to answer it."""
        reader = self._reader(request)
        if reader is None:
            self._ledger.count("challenged", status="401")
            return Handling(None, self._challenge)
        self._ledger.count("read")
        return Handling(self._faults.take("secrets"), lambda: self._answer(request, reader))

    def refusal(self, fault: Fault) -> Response:
        """Return what Key Vault says when it is overloaded or out of order."""
        code = {429: "Throttled"}.get(fault.code, "InternalServerError")
        return _error(fault.code, code, "The request was not processed; try again later.")

    def _reader(self, request: Request) -> str | None:
        """Return the client id of a good token."""
        audiences = frozenset({RESOURCE, f"{RESOURCE}/"})
        try:
            claims = self._entra.judge(request.bearer(), audiences=audiences)
        except TokenRefusedError:
            return None
        return str(claims["appid"])

    def _challenge(self) -> Response:
        authority = f"{self._entra.authority}/{self._entra.tenant_id}"
        challenge = f'Bearer authorization="{authority}", resource="{self.resource}"'
        text = "AKV10000: Request is missing a Bearer or PoP token."
        return _error(401, "Unauthorized", text, {"WWW-Authenticate": challenge})

    def _answer(self, request: Request, reader: str) -> Response:
        with self._lock:
            answer = self._found(request, reader)
        self._ledger.count(status=str(answer.status))
        return answer

    def _found(self, request: Request, reader: str) -> Response:
        match request.path.strip("/").split("/"):
            case ["secrets", name]:
                version = ""
            case ["secrets", name, version]:
                pass
            case _:
                return _error(404, "NotFound", "There is nothing here.")
        self._ledger.count(secret=name)
        if not request.query.get("api-version"):
            return _error(400, "BadParameter", "api-version must be specified")
        if self.readers is not None and reader not in self.readers:
            return _error(
                403, "Forbidden", "Caller is not authorized to perform action on resource."
            )
        secret = self._secrets.get(name.lower())
        if secret is None or (version and version not in secret.versions):
            text = f"A secret with (name/id) {name} was not found in this key vault."
            return _error(404, "SecretNotFound", text)
        if not secret.enabled:
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.")
        version = version or list(secret.versions)[-1]
        now = int(self._clock())
        return Response.of(
            {
                "value": secret.versions[version],
                "id": f"{self.endpoint}/secrets/{name}/{version}",
                "attributes": {
                    "enabled": True,
                    "created": now,
                    "updated": now,
                    "recoveryLevel": "Recoverable+Purgeable",
                    "recoverableDays": 90,
                },
                "tags": {},
            }
        )


def _error(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response.of(
        {"error": {"code": code, "message": text}}, status=status, headers=headers or {}
    )
