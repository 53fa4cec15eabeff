"""The client-credentials grant: which client asks for a token, for which resource, with which proof.

RFC 6749, section 4.4. A client assertion (RFC 7523) is a signed JWT in place of a client secret: an
application that signs with its own certificate names itself as issuer; any other issuer is a
federated identity. https://learn.microsoft.com/entra/identity-platform/certificate-credentials
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.types import Options

from lightspeed_azure.emulators import aadsts
from lightspeed_azure.emulators.directory import Application, Directory, FederatedCredential
from lightspeed_azure.emulators.service import Request
from lightspeed_azure.emulators.tokens import BY_ISSUER_CLOCK

_SCOPE = re.compile(r"(?:[a-z][a-z0-9+.-]*://[^\s/]+\S*|[0-9a-fA-F-]{36})/\.default")
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CERTIFICATE_ALGORITHMS = ["RS256", "PS256"]
_FEDERATED_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256"]
_UNBELIEVED: Options = {**BY_ISSUER_CLOCK, "verify_signature": False}


@dataclass(frozen=True, slots=True)
class Assertion:
    """A client assertion that has been parsed but not verified yet."""

    token: str = field(repr=False)
    headers: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, token: str) -> "Assertion":
        """Return what the assertion says.

        Raises:
            EntraError: it is no JWT.
        """
        try:
            headers = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options=_UNBELIEVED)
        except jwt.InvalidTokenError as error:
            raise aadsts.malformed_assertion() from error
        return cls(token, headers, claims)

    def grant(self, application: Application) -> str:
        """Return what kind of proof it is: "certificate" or "federated"."""
        return "certificate" if self.claims.get("iss") == application.client_id else "federated"

    def verify(self, application: Application, *, audiences: frozenset[str], now: float) -> None:
        """Verify it.

        Args:
            application: whom it should speak for.
            audiences: the URLs by which the token endpoint goes.
            now: seconds since the epoch by the issuer's clock.

        Raises:
            EntraError: why it is not accepted.
        """
        if self.grant(application) == "certificate":
            self._verify_certificate(application, audiences)
        else:
            self._verify_federated(application)
        starts, ends = self._number("nbf"), self._number("exp")
        if not starts <= now < ends:
            raise aadsts.expired_assertion(now, starts, ends)

    def _verify_certificate(self, application: Application, audiences: frozenset[str]) -> None:
        # RFC 7515 wants no padding; MSAL for Python pads, and the real service takes both.
        sha1, sha256 = (str(self.headers.get(name, "")).rstrip("=") for name in ("x5t", "x5t#S256"))
        keys = [
            each.public_key
            for each in application.certificates
            if sha256 == each.sha256 or (not sha256 and sha1 == each.sha1)
        ]
        if not keys:
            raise aadsts.unregistered_certificate(application.client_id)
        if not self._signed_by(keys[0], _CERTIFICATE_ALGORITHMS):
            raise aadsts.bad_signature(application.client_id)
        if self.claims.get("sub") != application.client_id:
            raise aadsts.wrong_assertion_subject()
        if self.claims.get("aud") not in audiences:
            raise aadsts.wrong_assertion_audience()

    def _verify_federated(self, application: Application) -> None:
        issuer, subject = str(self.claims.get("iss", "")), str(self.claims.get("sub", ""))
        audience = self.claims.get("aud", "")
        named = audience if isinstance(audience, list) else [audience]
        shown = ", ".join(map(str, named))
        trusted: list[FederatedCredential] = list(application.federated)
        if not trusted:
            raise aadsts.unfederated(issuer, subject, shown)
        trusted = [each for each in trusted if each.issuer == issuer]
        if not trusted:
            raise aadsts.federation_mismatch(700211, "issuer", issuer)
        trusted = [each for each in trusted if each.audience in named]
        if not trusted:
            raise aadsts.federation_mismatch(700212, "audience", shown)
        trusted = [each for each in trusted if each.subject == subject]
        if not trusted:
            raise aadsts.federation_mismatch(700213, "subject", subject)
        if not any(self._signed_by(self._key(each), _FEDERATED_ALGORITHMS) for each in trusted):
            raise aadsts.bad_federated_signature()

    def _key(self, trusted: FederatedCredential) -> Any:
        if isinstance(trusted.key, str):
            return trusted.key
        keys = jwt.PyJWKSet.from_dict(dict(trusted.key)).keys
        named = [key for key in keys if key.key_id == self.headers.get("kid")]
        return (named or keys)[0].key

    def _signed_by(self, key: Any, algorithms: list[str]) -> bool:
        try:
            jwt.decode(self.token, key, algorithms=algorithms, options=BY_ISSUER_CLOCK)
        except jwt.InvalidTokenError:
            return False
        return True

    def _number(self, name: str) -> float:
        value = self.claims.get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client may have.

    Args:
        application: the client.
        resource: the scope without ``/.default``.
        proof: "client_secret", "certificate" or "federated".
    """

    application: Application
    resource: str
    proof: str


def authenticate(
    request: Request, tenant: str, *, directory: Directory, authority: str, now: float
) -> Grant:
    """Return what the client may have.

    Args:
        request: to the token endpoint.
        tenant: from its path.
        directory: who is known.
        authority: the base URL; assertions name it as their audience.
        now: seconds since the epoch by the issuer's clock.

    Raises:
        EntraError: why it may have nothing.
    """
    if request.method != "POST":
        raise aadsts.missing_parameter("grant_type")
    form = {**request.basic(), **request.form()}
    directory.know(tenant)
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            raise aadsts.missing_parameter(name)
    if form["grant_type"] != "client_credentials":
        raise aadsts.unsupported_grant(form["grant_type"])
    scope = form["scope"]
    if not _SCOPE.fullmatch(scope):
        raise aadsts.invalid_scope(scope)
    application = directory.find(tenant, form["client_id"])
    proof = _prove(application, form, authority=authority, now=now)
    return Grant(application, scope.removesuffix("/.default"), proof)


def _prove(application: Application, form: Mapping[str, str], *, authority: str, now: float) -> str:
    if form.get("client_assertion_type") == _JWT_BEARER and form.get("client_assertion"):
        assertion = Assertion.read(form["client_assertion"])
        base = f"{authority}/{application.tenant_id}"
        audiences = frozenset({f"{base}/oauth2/v2.0/token", f"{base}/v2.0", base})
        assertion.verify(application, audiences=audiences, now=now)
        return assertion.grant(application)
    if not form.get("client_secret"):
        raise aadsts.no_proof()
    for secret in application.secrets:
        if secret.matches(form["client_secret"]):
            if secret.expires_on is not None and now >= secret.expires_on:
                raise aadsts.expired_secret(application.client_id)
            return "client_secret"
    raise aadsts.wrong_secret(application.client_id)
