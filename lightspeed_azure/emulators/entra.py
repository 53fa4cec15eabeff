"""Entra ID: the token endpoint for client credentials, discovery, and the signing keys.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow

Access tokens look like those that Azure's own resources get: version 1.0, the issuer
``https://sts.windows.net/{tenant}/`` and, as audience, the resource's URI (the scope without
``/.default``). The resource decides on that form, not the version of the endpoint asked.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.emulators import aadsts
from lightspeed_azure.emulators.directory import Application, ClientSecret, Directory, issuer_of
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.grants import authenticate
from lightspeed_azure.emulators.service import Emulator, Handling, Request, Response
from lightspeed_azure.emulators.tokens import IssuedToken, TokenIssuer

_REFRESH_IN_FROM = 7200.0  # seconds; the real service adds `refresh_in` to long-lived tokens only
_ENDPOINTS = frozenset({"token", "discovery", "jwks"})


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


class EntraEmulator(Emulator):
    """Stands in for ``login.microsoftonline.com``.

    Safe for concurrent use; everything may be changed while it serves.

    Args:
        clock: seconds since the epoch, as Entra ID sees them.
        token_lifetime: seconds.
    """

    name = "Entra ID"

    def __init__(self, *, clock: Callable[[], float], token_lifetime: float) -> None:
        super().__init__(clock)
        self.tokens = TokenIssuer(clock)
        self._directory = Directory()
        self.authority = ""
        self.token_lifetime = token_lifetime

    def __repr__(self) -> str:
        return f"EntraEmulator(authority={self.authority!r}, tenant_id={self.tenant_id!r})"

    def reset(self, *, token_lifetime: float) -> None:
        """Reset: another tenant with another application, no faults, counters at 0."""
        self._directory.reset()
        self.tokens.reset()
        self._reset()
        self.token_lifetime = token_lifetime

    @property
    def tenant_id(self) -> str:
        """The tenant that is registered from the start."""
        return self._directory.tenant_id

    @property
    def application(self) -> Application:
        """The application that is registered from the start, as it is now."""
        return self._directory.application

    @property
    def requests(self) -> EntraRequests:
        """The counters as they stand."""
        tally = self._ledger.snapshot()
        return EntraRequests(
            requested=tally.of("requested"),
            issued=tally.of("issued"),
            by_grant=tally.by("by_grant"),
            by_outcome=tally.by("by_outcome"),
            discovery=tally.of("discovery"),
            jwks=tally.of("jwks"),
        )

    def judge(self, token: str, *, audiences: frozenset[str]) -> Mapping[str, Any]:
        """Return the claims of a token that is good at this moment.

        Args:
            token: a bearer token, or "".
            audiences: the resource's names; the token must be for one of them.

        Raises:
            TokenRefusedError: with the first reason found.
        """
        return self.tokens.judge(token, audiences=audiences, issuers=self._directory.issuers)

    def register(self, application: Application) -> Application:
        """Add an application to its tenant; it replaces one with the same client id."""
        self._directory.register(application)
        return application

    def rotate_secret(self) -> SecretStr:
        """Replace the default application's secrets by a new one, and return that."""
        secret = SecretStr(secrets.token_urlsafe(30))
        self.register(self.application.replace(secrets=[secret]))
        return secret

    def expire_secrets(self) -> None:
        """Let the default application's secrets end now."""
        now = self._clock()
        ended = [ClientSecret(each.value, expires_on=now) for each in self.application.secrets]
        self.register(self.application.replace(secrets=ended))

    def rotate_signing_key(self, *, keep: bool = True) -> None:
        """Sign tokens with a new key from now on, as the real service does without notice.

        Args:
            keep: whether the keys before it stay published, and tokens signed by them good.
        """
        self.tokens.rotate_key(keep=keep)

    def fault(self, fault: Fault, *, times: int | None = None, on: str = "token") -> None:
        """Apply `fault` to requests.

        Args:
            fault: what happens.
            times: how many requests; None: all, until `clear_faults`.
            on: "token", "discovery", "jwks" or "all".
        """
        if on != "all" and on not in _ENDPOINTS:
            raise ValueError(f"on must be one of {sorted(_ENDPOINTS)} or 'all'; it is {on!r}")
        self._faults.add(fault, times=times, on=_ENDPOINTS if on == "all" else frozenset({on}))

    def issue(
        self,
        *,
        resource: str,
        application: Application | None = None,
        lifetime: float | None = None,
        proof: str = "1",
    ) -> IssuedToken:
        """Return a token without a request: tests of a resource need one.

        Args:
            resource: the audience, such as "https://cognitiveservices.azure.com".
            application: None: the default one.
            lifetime: seconds; None: `token_lifetime`. Negative: expired from the start.
            proof: the claim ``appidacr``: "1" a secret, "2" a certificate or assertion.
        """
        app = application or self.application
        claims = {
            "aud": resource,
            "iss": issuer_of(app.tenant_id),
            "idp": issuer_of(app.tenant_id),
            "tid": app.tenant_id,
            "appid": app.client_id,
            "appidacr": proof,
            "idtyp": "app",
            "oid": app.object_id,
            "sub": app.object_id,
            "roles": list(app.roles),
            "ver": "1.0",
        }
        return self.tokens.issue(claims, self.token_lifetime if lifetime is None else lifetime)

    def receive(self, request: Request) -> Handling:
        """Count the request, and return how to answer it."""
        parts = request.path.strip("/").split("/")
        match parts:
            case [tenant, "oauth2", "v2.0", "token"]:
                return self._token_handling(tenant, request)
            case [tenant, "discovery", "v2.0", "keys"]:
                self._ledger.count("jwks")
                return Handling(
                    self._faults.take("jwks"),
                    lambda: self._describe(tenant, self.tokens.public_keys),
                )
            case ["common", "discovery", "instance"]:
                self._ledger.count("discovery")
                return Handling(
                    self._faults.take("discovery"),
                    lambda: Response.of(_instance(self.authority, request.query, self.tenant_id)),
                )
            case [tenant, "v2.0", ".well-known", "openid-configuration"]:
                self._ledger.count("discovery")
                return Handling(
                    self._faults.take("discovery"),
                    lambda: self._describe(tenant, lambda: _configuration(self.authority, tenant)),
                )
        return Handling(None, lambda: Response.of({"error": "not_found"}, status=404))

    def refusal(self, fault: Fault) -> Response:
        """Return what Entra ID says when it is overloaded or out of order."""
        text = "A transient error has occurred. Please try again."
        error = aadsts.EntraError(90033, fault.code, "temporarily_unavailable", text)
        return self._refuse(error, "")

    def _refuse(self, error: aadsts.EntraError, correlation_id: str) -> Response:
        return error.answer(
            now=self._clock(), correlation_id=correlation_id, authority=self.authority
        )

    def _token_handling(self, tenant: str, request: Request) -> Handling:
        self._ledger.count("requested")
        fault = self._faults.take("token")
        if fault is not None and fault.kind in {"status", "hang", "reset", "not_json"}:
            self._ledger.count(by_outcome=fault.outcome)
        return Handling(fault, lambda: self._token(tenant, request))

    def _token(self, tenant: str, request: Request) -> Response:
        try:
            grant = authenticate(
                request,
                tenant,
                directory=self._directory,
                authority=self.authority,
                now=self._clock(),
            )
        except aadsts.EntraError as error:
            self._ledger.count(by_outcome=error.outcome)
            return self._refuse(error, request.headers.get("client-request-id", ""))
        lifetime = self.token_lifetime
        token = self.issue(
            resource=grant.resource,
            application=grant.application,
            lifetime=lifetime,
            proof="1" if grant.proof == "client_secret" else "2",
        )
        self._ledger.count("issued", by_outcome="200", by_grant=grant.proof)
        whole = int(lifetime)
        body = {"token_type": "Bearer", "expires_in": whole, "ext_expires_in": whole}
        if lifetime >= _REFRESH_IN_FROM:
            body["refresh_in"] = whole // 2
        headers = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}
        return Response.of({**body, "access_token": token.value}, headers=headers)

    def _describe(self, tenant: str, document: Callable[[], object]) -> Response:
        try:
            self._directory.know(tenant, discovery=True)
        except aadsts.EntraError as error:
            return self._refuse(error, "")
        return Response.of(document())


def _configuration(authority: str, tenant: str) -> dict[str, object]:
    """Return a tenant's OpenID configuration; MSAL reads it before its first token request."""
    base = f"{authority}/{tenant}"
    return {
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": f"{base}/v2.0",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
        "tenant_region_scope": None,
        "cloud_instance_name": "microsoftonline.com",
    }


def _instance(authority: str, query: Mapping[str, str], default_tenant: str) -> dict[str, object]:
    """Return the instance metadata: which hosts are the same cloud.

    MSAL asks ``login.microsoftonline.com`` for it, whatever authority it was given, unless the
    authority is one of Microsoft's own hosts: with azure-identity set
    ``disable_instance_discovery=True`` here, as for any private authority.
    """
    host = authority.removeprefix("https://")
    asked = query.get("authorization_endpoint", "").removeprefix(authority)
    tenant = asked.strip("/").split("/")[0] or default_tenant
    return {
        "tenant_discovery_endpoint": f"{authority}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }
