"""Keys that verify signatures: the only file that imports joserfc.

A key of a JSON Web Key Set (RFC 7517) verifies with the algorithms of its own type only, so no
public key is ever taken for the secret of an HMAC, whatever a token's header says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry

from lightspeed_azure.config.inbound import ALGORITHMS

_TYPES = ("RSA", "EC", "OKP")
"""The asymmetric ones: `oct`, which signs as well as it verifies, is none of them."""

_PUBLIC = frozenset(
    {"kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y"},
)
"""What is read of a key: a published private part is left where it is."""

_SMALLEST_RSA = 2048 // 6
"""Digits of base64 that a modulus must have: 2048 bits (RFC 7518, section 3.3)."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key.

    Attributes:
        kid: its name, or None.
        alg: the only algorithm that it may be used with, or None for all of its type.
        thumbprint: what it is, whatever its name (RFC 7638).
    """

    kid: str | None
    alg: str | None
    thumbprint: str
    _key: Any = field(repr=False, compare=False)

    def fits(self, alg: str) -> bool:
        """Return whether a signature by this algorithm can be verified with this key."""
        try:
            JWSRegistry.algorithms[alg].check_key(self._key)
        except (JoseError, KeyError):
            return False
        return alg in ALGORITHMS

    def verifies(self, alg: str, signed: bytes, signature: bytes) -> bool:
        """Return whether a signature is good; the key must fit the algorithm."""
        if not self.fits(alg):
            return False
        try:
            return JWSRegistry.algorithms[alg].verify(signed, signature, self._key)
        except (JoseError, ValueError):  # such as a point that is not on the curve
            return False


def verification_keys(document: object) -> tuple[VerificationKey, ...]:
    """Return the keys of a JSON Web Key Set that can verify; others are left out.

    Raises:
        ValueError: it is no key set, or none of its keys is usable; the text says which.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("is no JSON Web Key Set")  # noqa: TRY004 - a value from outside
    found = tuple(key for data in listed if (key := _key(data)) is not None)
    if not found:
        raise ValueError("holds no key that verifies RSA, EC or EdDSA signatures")
    return found


def _key(data: object) -> VerificationKey | None:
    """Return a key, or None where it is not for this, not understood, or too weak."""
    if not isinstance(data, Mapping) or data.get("kty") not in _TYPES:
        return None
    public = {name: value for name, value in data.items() if name in _PUBLIC}
    operations = public.pop("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid, alg, use = (public.get(name) for name in ("kid", "alg", "use"))
    is_weak = public["kty"] == "RSA" and len(str(public.get("n"))) < _SMALLEST_RSA
    if is_weak or use not in (None, "sig"):
        return None
    if not isinstance(kid, str | None) or not isinstance(alg, str | None):
        return None
    try:
        key = JWKRegistry.import_key(public)
        return VerificationKey(kid, alg, key.thumbprint(), key)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        return None
