"""What an administrator registers in Entra ID: applications and how they prove who they are."""

import hmac
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

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
        """Tell whether `offered` is this secret."""
        return hmac.compare_digest(offered.encode(), self.value.get_secret_value().encode())


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Trust in another issuer's tokens, such as a cluster's service-account tokens.

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
    """An application (service principal) of one tenant; it does not change once it is made.

    Args:
        client_id: any text; None: a random one.
        tenant_id: the tenant that knows it.
        secrets: the client secrets, all of which work until they end.
        certificates: PEM texts or files; private keys in them are not read.
        federated: whose tokens prove that it is this application.
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
