"""The credential of a request: exactly one, in one header, without ambiguity."""

import re
from collections.abc import Sequence
from typing import Protocol

from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason

LONGEST = 32 * 1024
"""Characters; Entra ID's tokens reach 8 kB, Keycloak's with many roles more."""

# Visible ASCII without the comma, which proxies use to join headers of the same name.
_CREDENTIAL = re.compile(r"(?i:bearer) +([!-+\--~]+)")


class Headers(Protocol):
    """The headers of a request with case-insensitive names, such as a multidict."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Return all values of a header, in order."""
        ...


def bearer(headers: Headers) -> str:
    """Return the bearer token of a request (RFC 6750, section 2.1).

    Raises:
        InboundRejected: there is none, more than one, or something else.
    """
    values = headers.getall("Authorization", ())
    if len(values) > 1:
        raise InboundRejected(Reason.SEVERAL, "More than one Authorization header; send one")
    if not values or not values[0].strip():
        raise InboundRejected(
            Reason.MISSING, "No Authorization header; send Authorization: Bearer …"
        )
    value = values[0].strip(" \t")
    if len(value) > LONGEST:
        raise InboundRejected(Reason.TOO_LARGE, "The credential is too long")
    match = _CREDENTIAL.fullmatch(value)
    if match is None:
        if value[:7].lower() in ("bearer", "bearer "):
            raise InboundRejected(Reason.MALFORMED, "Not one bearer token, and nothing besides")
        raise InboundRejected(Reason.SCHEME, "Another scheme than Bearer")
    return match.group(1)


def api_key(headers: Headers) -> str:
    """Return the key of a request: a bearer token, or the header `api-key` as Azure's clients send.

    Raises:
        InboundRejected: there is none, more than one, or something else.
    """
    values = headers.getall("api-key", ())
    if not values:
        return bearer(headers)
    if len(values) > 1 or headers.getall("Authorization", ()):
        raise InboundRejected(Reason.SEVERAL, "More than one credential; send one")
    if len(values[0]) > LONGEST:
        raise InboundRejected(Reason.TOO_LARGE, "The credential is too long")
    return values[0].strip(" \t")
