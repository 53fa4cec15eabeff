"""What an administrator registers in Entra ID: applications, and how they prove who they are."""

import hmac
import secrets
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.emulators import aadsts
from lightspeed_azure.emulators.certificates import ClientCertificate

TOKEN_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105 - an audience
DEFAULT_ROLES = ("CognitiveServices.OpenAI.User",)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client secret, and when it ends.

    Args:
        value: the secret.
        expires_on: seconds since the epoch by the issuer's clock; None: never.
    """

    value: SecretStr
    expires_on: float | None = None

    @classmethod
    def of(cls, secret: "str | SecretStr | ClientSecret") -> "ClientSecret":
        """Return `secret` as a ClientSecret."""
        if isinstance(secret, ClientSecret):
            return secret
        return cls(SecretStr(secret) if isinstance(secret, str) else secret)

    def matches(self, offered: str) -> bool:
        """Return whether `offered` is this secret."""
        return hmac.compare_digest(offered.encode(), self.value.get_secret_value().encode())


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Trust in the tokens of another issuer, such as a cluster's service-account tokens.

    https://learn.microsoft.com/entra/workload-id/workload-identity-federation

    Args:
        issuer, subject, audience: what the assertion must say, compared exactly.
        key: the issuer's public key: a PEM text, or its JSON Web Key Set as a mapping.
    """

    issuer: str
    subject: str
    key: str | Mapping[str, Any] = field(repr=False)
    audience: str = TOKEN_EXCHANGE_AUDIENCE


class Application:
    """An application (service principal) of one tenant; immutable.

    Args:
        client_id: any text; None: a random one.
        tenant_id: the tenant that knows it.
        secrets: the client secrets, each of them works until it ends.
        certificates: PEM texts or files; private keys in them are not read.
        federated: the issuers whose tokens it can sign in with.
        roles: the claim ``roles`` of its tokens.
    """

    def __init__(
        self,
        *,
        tenant_id: str,
        client_id: str | None = None,
        secrets: Iterable[str | SecretStr | ClientSecret] = (),
        certificates: Iterable[str | bytes | Path | ClientCertificate] = (),
        federated: Iterable[FederatedCredential] = (),
        roles: Iterable[str] = DEFAULT_ROLES,
    ) -> None:
        self.client_id = client_id or str(uuid.uuid4())
        self.tenant_id = tenant_id
        self.secrets = tuple(ClientSecret.of(secret) for secret in secrets)
        self.certificates = tuple(
            each if isinstance(each, ClientCertificate) else ClientCertificate.from_pem(each)
            for each in certificates
        )
        self.federated = tuple(federated)
        self.roles = tuple(roles)

    @property
    def client_secret(self) -> SecretStr:
        """The newest client secret.

        Raises:
            LookupError: it has none.
        """
        if not self.secrets:
            raise LookupError(f"application {self.client_id} has no client secret")
        return self.secrets[-1].value

    @property
    def object_id(self) -> str:
        """The service principal's id: the claims ``oid`` and ``sub`` of its tokens."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.tenant_id}/{self.client_id}"))

    def replace(self, **changes: Any) -> "Application":
        """Return a copy with these arguments of the constructor changed."""
        now: dict[str, Any] = {
            "client_id": self.client_id,
            "tenant_id": self.tenant_id,
            "secrets": self.secrets,
            "certificates": self.certificates,
            "federated": self.federated,
            "roles": self.roles,
        }
        return Application(**{**now, **changes})

    def __repr__(self) -> str:
        return (
            f"Application(client_id={self.client_id!r}, tenant_id={self.tenant_id!r},"
            f" secrets={len(self.secrets)}, certificates={len(self.certificates)},"
            f" federated={len(self.federated)}, roles={self.roles!r})"
        )


class Directory:
    """Applications by tenant and client id; a tenant exists while it has one.

    It starts with one tenant and one application, both with random names. Safe for concurrent
    use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def __repr__(self) -> str:
        return f"Directory(tenant_id={self.tenant_id!r}, applications={len(self._applications)})"

    def reset(self) -> None:
        """Reset: one tenant and one application, with new names and a new secret."""
        first = Application(tenant_id=str(uuid.uuid4()), secrets=[secrets.token_urlsafe(30)])
        with self._lock:
            self._first = (first.tenant_id, first.client_id)
            self._applications = {self._first: first}

    @property
    def tenant_id(self) -> str:
        """The tenant that is there from the start."""
        return self._first[0]

    @property
    def application(self) -> Application:
        """The application that is there from the start, as it is now."""
        with self._lock:
            return self._applications[self._first]

    @property
    def issuers(self) -> frozenset[str]:
        """The claim ``iss`` of each tenant's tokens."""
        with self._lock:
            return frozenset(issuer_of(tenant_id) for tenant_id, _ in self._applications)

    def register(self, application: Application) -> None:
        """Add the application; it replaces one with the same tenant and client id."""
        with self._lock:
            self._applications[application.tenant_id, application.client_id] = application

    def find(self, tenant_id: str, client_id: str) -> Application:
        """Return an application.

        Raises:
            EntraError: the tenant, or the application in it, is unknown.
        """
        self.know(tenant_id)
        with self._lock:
            found = self._applications.get((tenant_id, client_id))
        if found is None:
            raise aadsts.unknown_application(client_id, tenant_id)
        return found

    def know(self, tenant_id: str, *, discovery: bool = False) -> None:
        """Raise an EntraError when there is no such tenant; `discovery` words it differently."""
        with self._lock:
            known = any(tenant_id == each for each, _ in self._applications)
        if not known:
            raise aadsts.unknown_tenant(tenant_id, discovery=discovery)


def issuer_of(tenant_id: str) -> str:
    """Return the claim ``iss`` of a tenant's version 1.0 tokens."""
    return f"https://sts.windows.net/{tenant_id}/"
