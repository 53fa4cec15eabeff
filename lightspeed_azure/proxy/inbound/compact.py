"""A JWT in compact form (RFC 7515, section 7.1), taken apart strictly; nothing of it is believed yet."""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_MALFORMED = "Not a JWT in compact form"


@dataclass(frozen=True, slots=True)
class UnverifiedJwt:
    """The parts of a JWT; the repr shows none of them.

    Attributes:
        header: the JOSE header.
        claims: what it claims.
        signed: the bytes that are signed.
        signature: the signature.
    """

    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def unverified(token: str) -> UnverifiedJwt:
    """Take a token apart.

    Raises:
        Rejected: it is encrypted, or no JWT at all.
    """
    parts = token.split(".")
    if len(parts) == 5:
        raise Rejected(Reason.ENCRYPTED, "An encrypted token; only signed ones can be verified")
    if len(parts) != 3:
        raise Rejected(Reason.MALFORMED, _MALFORMED)
    header, claims = _json(parts[0]), _json(parts[1])
    signed = f"{parts[0]}.{parts[1]}".encode()
    # Without a signature it is what `alg: none` makes: the header tells the better reason.
    signature = _decode(parts[2]) if parts[2] else b""
    return UnverifiedJwt(header, claims, signed, signature)


def _decode(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise Rejected(Reason.MALFORMED, _MALFORMED)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise Rejected(Reason.MALFORMED, _MALFORMED) from None


def _json(text: str) -> dict[str, Any]:
    """Return a JSON object in which no name stands twice (RFC 7519, section 4)."""
    try:
        value = json.loads(
            _decode(text).decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Rejected(Reason.MALFORMED, _MALFORMED)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number that can be reckoned with")
    return number


def _refuse(constant: str) -> NoReturn:
    del constant
    raise ValueError("NaN and Infinity are no JSON")
