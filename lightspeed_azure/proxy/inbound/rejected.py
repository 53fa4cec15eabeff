"""Why a request is not let in."""

import math
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """The reasons; as the label of a metric a reason contains nothing of the request."""

    MISSING = "missing"
    SEVERAL = "several"
    SCHEME = "scheme"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    ENCRYPTED = "encrypted"
    ALGORITHM = "algorithm"
    CRITICAL_HEADER = "critical_header"
    TOKEN_TYPE = "token_type"  # noqa: S105 - a reason, no token
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    MISSING_CLAIM = "missing_claim"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    SCOPE = "scope"
    CLAIM = "claim"
    API_KEY = "api_key"
    FOREIGN = "foreign"
    KEYS_UNAVAILABLE = "keys_unavailable"


_WITHOUT_ERROR = frozenset({Reason.MISSING, Reason.SCHEME})
"""A request without a token gets a challenge without an error code (RFC 6750, section 3.1)."""

_FORBIDDEN = frozenset({Reason.SCOPE, Reason.CLAIM})


class InboundRejected(Exception):  # noqa: N818 - a response, not a failure
    """The request is not let in; no attribute contains anything of it.

    Attributes:
        reason: why, as a label for metrics.
        status: the HTTP status: 401, 403 or 503.
        message: why, in words for the caller.
        headers: headers of the response: the challenge (RFC 9110, section 11.6.1; RFC 6750,
            section 3), or Retry-After.
    """

    def __init__(
        self, reason: Reason, message: str, *, retry_after: float = 5.0, scope: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.headers: dict[str, str] = {}
        if reason is Reason.KEYS_UNAVAILABLE:
            self.status = 503
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
            return
        self.status = 403 if reason in _FORBIDDEN or reason is Reason.FOREIGN else 401
        if reason is Reason.FOREIGN:
            return  # no credential would help
        self.headers["WWW-Authenticate"] = _challenge(reason, message, scope)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.reason, self.message, self.__dict__))


async def frameless(judging: Coroutine[Any, Any, None]) -> None:
    """Await `judging`, and drop the frames of a rejection: their locals hold the credential.

    The errors that caused it have frames too, so they are dropped as well.

    Raises:
        InboundRejected: `judging` raised it.
    """
    left: InboundRejected | None = None
    try:
        await judging
    except InboundRejected as rejected:
        left = rejected.with_traceback(None)
        left.__cause__ = left.__context__ = None
    if left is not None:
        raise left


def _rebuild(reason: Reason, message: str, fields: dict[str, object]) -> InboundRejected:
    """Unpickle: exceptions with keyword arguments do not do this by themselves."""
    rejected = InboundRejected(reason, message)
    rejected.__dict__.update(fields)
    return rejected


def _challenge(reason: Reason, message: str, scope: str) -> str:
    """Return the value of WWW-Authenticate."""
    parts = ['realm="lightspeed-azure"']
    if reason not in _WITHOUT_ERROR:
        code = "invalid_request" if reason is Reason.SEVERAL else "invalid_token"
        if reason in _FORBIDDEN:
            code = "insufficient_scope"
        parts += [f'error="{code}"', f'error_description="{message}"']
    if scope:
        parts.append(f'scope="{scope}"')
    return "Bearer " + ", ".join(parts)
