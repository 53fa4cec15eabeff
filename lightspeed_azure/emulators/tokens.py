"""Access tokens: signed once, remembered exactly, judged by the issuer's clock.

The claims ``iat``, ``nbf`` and ``exp`` are whole seconds, as Entra ID writes them. A token whose
lifetime is a few seconds would lose up to one of them to rounding, so the issuer remembers the
exact moments by ``uti``, and judges by those: a lifetime of 3 s is 3 s. ``exp`` is never later
than the exact moment.

Access tokens of Entra ID: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

import base64
import functools
import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

Reason = Literal["missing", "bad signature", "wrong audience", "wrong issuer", "expired", "revoked"]

BY_ISSUER_CLOCK: Options = {  # PyJWT checks by the machine's clock only
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_REMEMBERED = 20_000  # moments kept; older tokens are judged by their claims


def fingerprint(token: str) -> str:
    """Return a short name for a token that may be shown: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


class TokenRefusedError(Exception):
    """A bearer token is not acceptable; the text is the reason, never the token."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and what its issuer knows of it.

    Args:
        serial: 1 for the first token of this issuer.
        issued_at: seconds since the epoch by the issuer's clock.
        expires_at: the exact moment, issued_at + lifetime.
    """

    value: str = field(repr=False)
    serial: int
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Moments:
    serial: int
    expires_at: float


@functools.cache
def _process_key() -> rsa.RSAPrivateKey:
    """Return one RSA key for the process: making one takes 50-100 ms.

    Issuers share it, yet do not accept each other's tokens: each has a key id of its own.
    """
    return new_key()


def new_key() -> rsa.RSAPrivateKey:
    """Return a new key of the size that Entra ID signs with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class TokenIssuer:
    """Signs tokens (RS256) and judges them, both by one clock.

    Safe for concurrent use.

    Args:
        clock: seconds since the epoch, as the issuer sees them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._key_id = secrets.token_urlsafe(20)
        self._keys = {self._key_id: _process_key()}  # by key id; the last one signs
        self._serial = 0
        self._revoked_up_to = -1
        self._revoked: set[str] = set()
        self._moments: OrderedDict[str, _Moments] = OrderedDict()  # by uti

    def rotate_key(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; takes 50-100 ms.

        Args:
            keep: whether the keys before it stay published, so that tokens signed by them are good.
        """
        key, key_id = new_key(), secrets.token_urlsafe(20)
        with self._lock:
            self._keys = {**(self._keys if keep else {}), key_id: key}
            self._key_id = key_id

    def reset(self) -> None:
        """Reset: tokens issued before are signed by a key that is no longer known."""
        with self._lock:
            self._forget()

    def issue(self, claims: Mapping[str, object], lifetime: float) -> IssuedToken:
        """Return a new token with `claims` that lives `lifetime` seconds; no two are equal."""
        now = self._clock()
        expires_at = now + lifetime
        uti = secrets.token_urlsafe(16)
        stamps = {"iat": int(now), "nbf": int(now), "exp": int(expires_at), "uti": uti}
        with self._lock:
            self._serial += 1
            serial = self._serial
            key_id = self._key_id
            key = self._keys[key_id]
            self._moments[uti] = _Moments(serial, expires_at)
            if len(self._moments) > _REMEMBERED:
                self._moments.popitem(last=False)
        headers = {"kid": key_id, "x5t": key_id}
        value = jwt.encode({**claims, **stamps}, key, "RS256", headers=headers)
        return IssuedToken(value, serial, now, expires_at)

    def judge(
        self, token: str, *, audiences: frozenset[str], issuers: frozenset[str]
    ) -> Mapping[str, Any]:
        """Return the claims of a token that is good at this moment.

        Raises:
            TokenRefusedError: with the first reason found.
        """
        claims = self._verified(token)
        if claims.get("iss") not in issuers:
            raise TokenRefusedError("wrong issuer")
        if claims.get("aud") not in audiences:
            raise TokenRefusedError("wrong audience")
        now = self._clock()
        with self._lock:
            moments = self._moments.get(str(claims.get("uti")))
            serial = moments.serial if moments else 0
            revoked = fingerprint(token) in self._revoked or serial <= self._revoked_up_to
        expires_at = moments.expires_at if moments else float(claims.get("exp", 0))
        if now >= expires_at:
            raise TokenRefusedError("expired")
        if revoked:
            raise TokenRefusedError("revoked")
        return claims

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise TokenRefusedError("bad signature")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public_key(),
                algorithms=["RS256"],
                options=BY_ISSUER_CLOCK,
            )
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError("bad signature") from error
        return claims

    def revoke(self, token_or_fingerprint: str) -> None:
        """Refuse this token from now on, though it has not expired."""
        known = token_or_fingerprint
        with self._lock:
            self._revoked.add(fingerprint(known) if "." in known else known)

    def revoke_all(self) -> None:
        """Refuse every token issued so far."""
        with self._lock:
            self._revoked_up_to = self._serial

    def public_keys(self) -> dict[str, object]:
        """Return the JSON Web Key Set that verifies the tokens (RFC 7517)."""
        return {"keys": [_public(key_id, key) for key_id, key in self._keys.items()]}


def _public(key_id: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key_id,
        "x5t": key_id,
        "n": _number(numbers.n),
        "e": _number(numbers.e),
    }


def _number(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
