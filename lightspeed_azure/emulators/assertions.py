"""Client assertions (RFC 7523): a signed JWT in the place of a client secret.

An application that signs with its own certificate names itself as issuer; any other issuer is a
federated identity. https://learn.microsoft.com/entra/identity-platform/certificate-credentials
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.types import Options

from lightspeed_azure.emulators import assertion_errors
from lightspeed_azure.emulators.applications import Application, FederatedCredential

_CERTIFICATE_ALGORITHMS = ["RS256", "PS256"]
_FEDERATED_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256"]
_BY_OUR_CLOCK: Options = {  # the issuer's, not the machine's
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_UNBELIEVED: Options = {**_BY_OUR_CLOCK, "verify_signature": False}


@dataclass(frozen=True, slots=True)
class Assertion:
    """A client assertion that has been read, and not been believed yet."""

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
            raise assertion_errors.malformed_assertion() from error
        return cls(token, headers, claims)

    def grant(self, application: Application) -> str:
        """Tell what kind of proof it is: "certificate" or "federated"."""
        return "certificate" if self.claims.get("iss") == application.client_id else "federated"

    def verify(self, application: Application, *, audiences: frozenset[str], now: float) -> None:
        """Believe it.

        Args:
            application: whom it should speak for.
            audiences: the URLs by which the token endpoint goes.
            now: seconds since the epoch by the issuer's clock.

        Raises:
            EntraError: why it is not believed.
        """
        if self.grant(application) == "certificate":
            self._verify_certificate(application, audiences)
        else:
            self._verify_federated(application)
        starts, ends = self._number("nbf"), self._number("exp")
        if not starts <= now < ends:
            raise assertion_errors.expired_assertion(now, starts, ends)

    def _verify_certificate(self, application: Application, audiences: frozenset[str]) -> None:
        # RFC 7515 wants no padding; MSAL for Python pads, and the real service takes both.
        sha1, sha256 = (str(self.headers.get(name, "")).rstrip("=") for name in ("x5t", "x5t#S256"))
        keys = [
            each.public_key
            for each in application.certificates
            if sha256 == each.sha256 or (not sha256 and sha1 == each.sha1)
        ]
        if not keys:
            raise assertion_errors.unregistered_certificate(application.client_id)
        if not self._signed_by(keys[0], _CERTIFICATE_ALGORITHMS):
            raise assertion_errors.bad_signature(application.client_id)
        if self.claims.get("sub") != application.client_id:
            raise assertion_errors.wrong_assertion_subject()
        if self.claims.get("aud") not in audiences:
            raise assertion_errors.wrong_assertion_audience()

    def _verify_federated(self, application: Application) -> None:
        issuer, subject = str(self.claims.get("iss", "")), str(self.claims.get("sub", ""))
        audience = self.claims.get("aud", "")
        named = audience if isinstance(audience, list) else [audience]
        shown = ", ".join(map(str, named))
        trusted: list[FederatedCredential] = list(application.federated)
        if not trusted:
            raise assertion_errors.unfederated(issuer, subject, shown)
        trusted = [each for each in trusted if each.issuer == issuer]
        if not trusted:
            raise assertion_errors.federation_mismatch(700211, "issuer", issuer)
        trusted = [each for each in trusted if each.audience in named]
        if not trusted:
            raise assertion_errors.federation_mismatch(700212, "audience", shown)
        trusted = [each for each in trusted if each.subject == subject]
        if not trusted:
            raise assertion_errors.federation_mismatch(700213, "subject", subject)
        if not any(self._signed_by(self._key(each), _FEDERATED_ALGORITHMS) for each in trusted):
            raise assertion_errors.bad_federated_signature()

    def _key(self, trusted: FederatedCredential) -> Any:
        if isinstance(trusted.key, str):
            return trusted.key
        keys = jwt.PyJWKSet.from_dict(dict(trusted.key)).keys
        named = [key for key in keys if key.key_id == self.headers.get("kid")]
        return (named or keys)[0].key

    def _signed_by(self, key: Any, algorithms: list[str]) -> bool:
        try:
            jwt.decode(self.token, key, algorithms=algorithms, options=_BY_OUR_CLOCK)
        except jwt.InvalidTokenError:
            return False
        return True

    def _number(self, name: str) -> float:
        value = self.claims.get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0
