"""A KV version 2 engine as OpenBao and HashiCorp Vault have it, with tokens and Kubernetes logins.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, …/auth/kubernetes, …/auth/token,
https://developer.hashicorp.com/vault/api-docs#http-status-codes
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.service import Emulator, Handling, Request, Response, Tally

_JSON = "application/json"
_INVALID = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
_DENIED = "1 error occurred:\n\t* permission denied\n\n"


@dataclass(slots=True)
class _Token:
    ttl: float
    ends: float | None
    renewable: bool
    paths: frozenset[str] | None  # None: all


@dataclass(slots=True)
class _Version:
    values: Mapping[str, Any] = field(repr=False)
    created: float
    deleted: float | None = None


class VaultEmulator(Emulator):
    """Stands in for ``https://vault.example:8200``; safe for concurrent use.

    Args:
        clock: seconds since the epoch, as the service sees them.

    Attributes:
        endpoint: "https://localhost:PORT".
        namespace: what ``X-Vault-Namespace`` must say; "" for the root namespace.
        sealed: whether it answers 503 to everything.
        active_node: where a standby node that does not forward sends its clients; "" for none.
        mount: where the engine is mounted.
        token_ttl: seconds that the token of a login lives.
        service_accounts: the role that each Kubernetes token may log in with.
    """

    name = "Vault"

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.endpoint = ""
        self.reset()

    def __repr__(self) -> str:
        return f"VaultEmulator(endpoint={self.endpoint!r}, sealed={self.sealed})"

    def reset(self) -> None:
        """Reset: no secrets, one token that never ends, no faults, counters at 0."""
        with self._lock:
            self.namespace = ""
            self.sealed = False
            self.active_node = ""
            self.mount = "secret"
            self.token_ttl = 3600.0
            self.service_accounts: dict[str, str] = {}
            self._secrets: dict[str, list[_Version]] = {}
            self._tokens: dict[str, _Token] = {}
            self._reset()
        self.token = self.create_token()

    # -- what a test or an operator does ---------------------------------------------------------

    def write(self, path: str, **values: Any) -> int:
        """Add a version of a secret and return its number."""
        with self._lock:
            versions = self._secrets.setdefault(path, [])
            versions.append(_Version(values, self._clock()))
            return len(versions)

    def delete(self, path: str, version: int) -> None:
        """Delete a version."""
        with self._lock:
            self._secrets[path][version - 1].deleted = self._clock()

    def create_token(
        self, *, ttl: float = 0.0, renewable: bool = True, paths: frozenset[str] | None = None
    ) -> SecretStr:
        """Return a new token.

        Args:
            ttl: seconds; 0: it never ends, as a root token.
            renewable: whether it may be renewed.
            paths: the secrets that its policy lets it read; None: all.
        """
        value = f"hvs.{secrets.token_urlsafe(18)}"
        ends = self._clock() + ttl if ttl else None
        with self._lock:
            self._tokens[value] = _Token(ttl, ends, renewable and bool(ttl), paths)
        return SecretStr(value)

    def revoke_tokens(self) -> None:
        """Refuse every token issued so far."""
        with self._lock:
            self._tokens.clear()

    def fault(self, fault: Fault, *, times: int | None = None, on: str = "read") -> None:
        """Apply `fault` to requests.

        Args:
            fault: what happens.
            times: how many requests; None: all, until `clear_faults`.
            on: "read", "login", "token" or "all".
        """
        every = frozenset({"read", "login", "token"})
        self._faults.add(fault, times=times, on=every if on == "all" else frozenset({on}))

    @property
    def requests(self) -> Tally:
        """The counters: `of("read" | "login" | "lookup" | "renew")`, `by("status")`, `by("path")`."""
        return self._ledger.snapshot()

    # -- the service -----------------------------------------------------------------------------

    def receive(self, request: Request) -> Handling:
        """Count the request, and return how to answer it."""
        parts = tuple(request.path.strip("/").split("/"))
        match parts:
            case ("v1", "auth", "token", action):
                kind, on = action.removesuffix("-self"), "token"
            case ("v1", "auth", _, "login"):
                kind, on = "login", "login"
            case _:
                kind, on = "read", "read"
        self._ledger.count(kind, path=request.path)
        return Handling(self._faults.take(on), lambda: self._answer(kind, request))

    def refusal(self, fault: Fault) -> Response:
        """Return what Vault says when it is sealed, overloaded or out of order."""
        texts = {429: "request path: rate limit quota exceeded", 503: "Vault is sealed"}
        return _errors(fault.code, texts.get(fault.code, "internal error"))

    def _answer(self, kind: str, request: Request) -> Response:
        with self._lock:
            answer = self._judged(kind, request)
        self._ledger.count(status=str(answer.status))
        return answer

    def _judged(self, kind: str, request: Request) -> Response:
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if self.active_node:
            return Response(307, headers={"Location": f"{self.active_node}{request.path}"})
        if request.headers.get("x-vault-namespace", "").strip("/") != self.namespace.strip("/"):
            return _errors(404, "no handler for route. route entry not found.")
        if kind == "login":
            return self._login(request)
        value = request.headers.get("x-vault-token", "")
        token = self._tokens.get(value)
        if token is None or (token.ends is not None and self._clock() >= token.ends):
            return _errors(403, _INVALID if value else "permission denied")
        return self._of_token(kind, value, token) or self._read(request, token)

    def _of_token(self, kind: str, value: str, token: _Token) -> Response | None:
        """Answer a question about the token itself."""
        if kind == "lookup":
            left = 0 if token.ends is None else int(token.ends - self._clock())
            return _data({"ttl": left, "renewable": token.renewable, "type": "service"})
        if kind != "renew":
            return None
        if not token.renewable:
            return _errors(400, "lease is not renewable")
        token.ends = self._clock() + token.ttl
        return self._auth(value, token)

    def _login(self, request: Request) -> Response:
        form = request.json()
        role = self.service_accounts.get(str(form.get("jwt")))
        if role is None or role != form.get("role"):
            return _errors(403, "permission denied")
        value = f"hvs.{secrets.token_urlsafe(18)}"
        token = _Token(self.token_ttl, self._clock() + self.token_ttl, True, None)
        self._tokens[value] = token
        return self._auth(value, token)

    def _auth(self, value: str, token: _Token) -> Response:
        auth = {
            "client_token": value,
            "accessor": secrets.token_urlsafe(12),
            "policies": ["default", "lightspeed"],
            "lease_duration": int(token.ttl),
            "renewable": token.renewable,
            "token_type": "service",
        }
        return _data(None, auth=auth)

    def _read(self, request: Request, token: _Token) -> Response:
        prefix = f"/v1/{self.mount}/data/"
        if not request.path.startswith(prefix):
            return _errors(404, f'no handler for route "{request.path.removeprefix("/v1/")}".')
        path = request.path.removeprefix(prefix)
        if token.paths is not None and path not in token.paths:
            return _errors(403, _DENIED)
        versions = self._secrets.get(path, [])
        number = int(request.query.get("version", 0)) or len(versions)
        if not 0 < number <= len(versions):
            return Response.of({"errors": []}, status=404)
        found = versions[number - 1]
        metadata = {
            "created_time": _time(found.created),
            "custom_metadata": None,
            "deletion_time": "" if found.deleted is None else _time(found.deleted),
            "destroyed": False,
            "version": number,
        }
        if found.deleted is not None:
            return _data({"data": None, "metadata": metadata}, status=404)
        return _data({"data": dict(found.values), "metadata": metadata})


def _data(data: object, *, auth: object = None, status: int = 200) -> Response:
    body = {"request_id": str(uuid.uuid4()), "lease_id": "", "renewable": False, "data": data}
    body |= {"lease_duration": 0, "wrap_info": None, "warnings": None, "auth": auth}
    return Response(status, Response.of(body).body, _JSON)


def _errors(status: int, *texts: str) -> Response:
    return Response(status, Response.of({"errors": list(texts)}).body, _JSON)


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
