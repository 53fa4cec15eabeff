"""JSON Web Tokens: parsed strictly, then judged and verified by joserfc, which only this file imports.

A key of a JSON Web Key Set (RFC 7517) verifies with the algorithms of its own type only, so no
public key is ever taken for the secret of an HMAC, whatever a token's header says.
"""

import base64
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

from joserfc import jws, jwt
from joserfc.errors import (
    ClaimError,
    ExpiredTokenError,
    JoseError,
    MissingClaimError,
    SecurityWarning,
)
from joserfc.jwk import Key, import_key

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import ALGORITHMS, JwtInbound
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason

_logger = logging.getLogger("lightspeed_azure.inbound")

LOG_PAUSE = 60.0
"""Seconds between two log lines about the same claim: callers decide how often it is wrong."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_MALFORMED = "Not a JWT in compact form"

_TYPES = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
"""Accepted values of `typ`: no logout token and no DPoP proof (RFC 8725, section 3.11)."""

_KEY_TYPES = ("RSA", "EC", "OKP")
"""The asymmetric types of key. `oct` keys sign as well as they verify."""

_PUBLIC = frozenset(
    {"kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y"},
)
"""The members of a key that are read; a published private part is ignored."""

_SMALLEST_RSA = 2048 // 6
"""Base64 digits of the smallest modulus: 2048 bits (RFC 7518, section 3.3)."""

_LATEST = 1e15
"""POSIX seconds: a later moment is not a date."""


@dataclass(frozen=True, slots=True)
class UnverifiedJwt:
    """The parts of a JWT; its repr shows none of them.

    Attributes:
        header: the JOSE header.
        claims: the claims.
        compact: the same with the signature, for joserfc.
    """

    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    compact: jws.CompactSignature = field(repr=False)


def unverified(token: str) -> UnverifiedJwt:
    """Parse a JWT in compact form (RFC 7515, section 7.1) without verifying it.

    joserfc's parser accepts repeated names, NaN and infinite numbers; this one does not.

    Raises:
        InboundRejected: it is encrypted, or not a JWT.
    """
    parts = token.split(".")
    if len(parts) == 5:
        raise InboundRejected(
            Reason.ENCRYPTED, "An encrypted token; only signed ones can be verified"
        )
    if len(parts) != 3:
        raise InboundRejected(Reason.MALFORMED, _MALFORMED)
    if parts[2]:  # without a signature it is what `alg: none` makes: the header gives the reason
        _decode(parts[2])
    header, payload = _json(_decode(parts[0])), _decode(parts[1])
    compact = jws.CompactSignature(header, payload)
    for name, part in zip(("header", "payload", "signature"), parts, strict=True):
        compact.segments[name] = part.encode()  # type: ignore[literal-required]
    return UnverifiedJwt(header, _json(payload), compact)


def _decode(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise InboundRejected(Reason.MALFORMED, _MALFORMED)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InboundRejected(Reason.MALFORMED, _MALFORMED) from None


def _json(text: bytes) -> dict[str, Any]:
    """Return a JSON object without repeated names (RFC 7519, section 4)."""
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InboundRejected(Reason.MALFORMED, _MALFORMED)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _refuse(constant: str) -> NoReturn:
    del constant
    raise ValueError("NaN and Infinity are not JSON")


@dataclass(frozen=True, slots=True)
class Validity:
    """When a token is valid, in POSIX seconds, with the leeway: `begins` <= now < `ends`."""

    begins: float
    ends: float


class ClaimRules:
    """What headers and claims must be (RFC 7519, section 4.1; RFC 9068).

    Args:
        config: the rules.
        clock: gives the time.
    """

    def __init__(self, config: JwtInbound, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._next_log: dict[str, float] = {}
        self._config = config
        self._scopes = frozenset(config.required_scopes)
        self._registry = jwt.JWTClaimsRegistry(
            now=clock.wall,  # type: ignore[arg-type]  # fractions of a second count too
            leeway=config.leeway,  # type: ignore[arg-type]
            iss={"essential": True, "values": [*config.issuer]},
            exp={"essential": True},
            aud={"essential": True, "values": [*config.audience]},
        )

    def algorithm(self, header: Mapping[str, Any]) -> str:
        """Return the algorithm of an acceptable header.

        Raises:
            InboundRejected: the header is not acceptable.
        """
        alg = header.get("alg")
        if not isinstance(alg, str) or alg not in self._config.algorithms:
            self._log("alg", _texts(alg), "algorithms", self._config.algorithms)
            raise InboundRejected(Reason.ALGORITHM, "Signed with an algorithm that is not accepted")
        # No extension is supported, so none may be critical (RFC 7515, section 4.1.11).
        if "crit" in header or "b64" in header:
            raise InboundRejected(
                Reason.CRITICAL_HEADER, "The token has a critical header parameter"
            )
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise InboundRejected(Reason.TOKEN_TYPE, "Another type of token than an access token")
        return alg

    def validity(self, claims: Mapping[str, Any]) -> Validity:
        """Check issuer, time and audience.

        Returns:
            When the token is valid, which it is now.

        Raises:
            InboundRejected: it is not valid now, from another issuer, or for another audience.
        """
        names = ("iss", "exp", "nbf", "aud")
        judged = {name: claims[name] for name in names if claims.get(name) is not None}
        if "aud" in judged:
            judged["aud"] = _texts(judged["aud"])
        try:
            self._registry.validate(judged)
        except ClaimError as error:
            raise self._rejection(error, claims.get(error.claim)) from None
        if max(abs(judged[name]) for name in ("exp", "nbf") if name in judged) > _LATEST:
            raise InboundRejected(Reason.MISSING_CLAIM, "The claims exp and nbf must be dates")
        leeway = self._config.leeway
        return Validity(judged.get("nbf", -_LATEST) - leeway, judged["exp"] + leeway)

    def _rejection(self, error: ClaimError, value: Any) -> InboundRejected:
        """Return the rejection for a claim that joserfc refused."""
        claim, seen = error.claim, _texts(value)
        if isinstance(error, MissingClaimError):
            return InboundRejected(Reason.MISSING_CLAIM, f"The token has no claim {claim}")
        if isinstance(error, ExpiredTokenError):
            return InboundRejected(Reason.EXPIRED, "The token has expired")
        if claim == "aud":
            self._log("aud", seen, "audience", self._config.audience)
            return InboundRejected(Reason.AUDIENCE, "The token is meant for another audience")
        if claim == "iss" and isinstance(value, str):
            self._log("iss", seen, "issuer", self._config.issuer)
            return InboundRejected(Reason.ISSUER, "The token is from another issuer")
        if claim == "nbf" and isinstance(value, int | float) and not isinstance(value, bool):
            return InboundRejected(Reason.NOT_YET_VALID, "The token is not valid yet")
        kind = "text" if claim == "iss" else "date"
        return InboundRejected(Reason.MISSING_CLAIM, f"The claim {claim} must be a {kind}")

    def permissions(self, claims: Mapping[str, Any]) -> None:
        """Check scopes and the required claims of a verified token.

        Raises:
            InboundRejected: one is missing.
        """
        # Entra ID and Okta write `scp`; a text is separated by spaces (RFC 8693, section 4.2).
        granted = {
            scope
            for name in ("scope", "scp")
            for text in _texts(claims.get(name))
            for scope in text.split(" ")
        }
        if not self._scopes <= granted:
            needed = " ".join(sorted(self._scopes))
            raise InboundRejected(Reason.SCOPE, "The token lacks a scope", scope=needed)
        for name, values in self._config.required_claims.items():
            if set(values).isdisjoint(_texts(_at(claims, name))):
                raise InboundRejected(Reason.CLAIM, "The token lacks a claim that is required here")

    def _log(self, claim: str, seen: Sequence[str], key: str, expected: Sequence[str]) -> None:
        """Log what a rejected token has and what it should have; the caller is not told.

        The token is not verified, so what it has is shortened and escaped.
        """
        now = self._clock.monotonic()
        if now < self._next_log.get(claim, now):
            return
        self._next_log[claim] = now + LOG_PAUSE
        _logger.warning(
            "A caller's token was rejected: its %s is %s, but proxy.inbound.%s is %s",
            claim,
            ascii(", ".join(seen)[:200]),
            key,
            ascii(", ".join(expected)),
        )


def _texts(value: object) -> list[str]:
    """Return the texts of a claim that may be one or a list."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value if not isinstance(item, list) for text in _texts(item)]
    return []


def _at(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name, or by the path to it: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key.

    Attributes:
        kid: its name, or None.
        thumbprint: identifies the key whatever its name (RFC 7638).
        algorithms: those that it verifies.
    """

    kid: str | None
    thumbprint: str
    algorithms: frozenset[str]
    _key: Key = field(repr=False, compare=False)

    def verifies(self, token: UnverifiedJwt, alg: str) -> bool:
        """Return whether the signature of a token is good.

        Args:
            token: the token.
            alg: the algorithm in its header.

        Raises:
            InboundRejected: a header parameter has a value that its RFC does not allow.
        """
        if alg not in self.algorithms:
            return False
        try:
            with _without_warning() if alg == "EdDSA" else nullcontext():
                return jws.validate_compact(token.compact, self._key, registry=_REGISTRY)
        except ValueError:  # such as a point that is not on the curve
            return False
        except JoseError:
            raise InboundRejected(Reason.MALFORMED, _MALFORMED) from None


@contextmanager
def _without_warning() -> Iterator[None]:
    """Suppress joserfc's warning: issuers still write EdDSA, which RFC 9864 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield


_REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)


def verification_keys(document: object) -> tuple[VerificationKey, ...]:
    """Return the keys of a JSON Web Key Set that can verify; others are left out.

    Raises:
        ValueError: it is not a key set, or none of its keys is usable; the text says which.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("is not a JSON Web Key Set")  # noqa: TRY004 - a value from outside
    found = tuple(key for data in listed if (key := _key(data)) is not None)
    if not found:
        raise ValueError("has no key that verifies RSA, EC or EdDSA signatures")
    return found


def _key(data: object) -> VerificationKey | None:
    """Return a key, or None if it has another use, is not understood, or too weak."""
    if not isinstance(data, Mapping) or data.get("kty") not in _KEY_TYPES:
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
        key = import_key(public)
        return VerificationKey(kid, key.thumbprint(), algorithms_of(key), key)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        return None


def algorithms_of(key: Key) -> frozenset[str]:
    """Return the accepted algorithms that a key can verify."""
    return frozenset(each.name for each in jws.JWSRegistry.filter_algorithms(key, [*ALGORITHMS]))
