"""What went over the wire in one attempt to sign in, seen through azure-core's own hooks.

azure-identity tells little: a 429 arrives as a bare ClientAuthenticationError, `Retry-After` is
lost, and expiry is computed with the local clock. The hooks `raw_request_hook` and
`raw_response_hook` (azure-core's CustomHookPolicy) see every request and every answer.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

_CURRENT: ContextVar["Exchange | None"] = ContextVar("lightspeed_azure_exchange", default=None)

_MARGIN = 0.95
"""Of the time that is left: our own error, which says what happened, comes before the deadline's."""

_LONGEST_WAIT = 3600.0
"""Seconds: MSAL's bound too; a service that asks for more is asked again."""

_CONNECT = 0.4
"""Of the time that is left: so that a black hole is told apart from a service that is silent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, without anything secret.

    Attributes:
        origin: who answered, as scheme://host:port.
        status: of HTTP.
        retry_after: seconds, or None when the service did not say.
        error: the OAuth 2.0 error name, or "".
        code: Entra ID's own code without "AADSTS", or "".
        description: the service's text, for the dates in it; never to be shown.
        skew: seconds by which the local clock is ahead of the service's, or None.
        is_json: whether the body was a JSON object.
    """

    origin: str
    status: int
    retry_after: float | None
    error: str
    code: str
    description: str = field(repr=False)
    skew: float | None
    is_json: bool


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a token lives, by the issuer's own account.

    Attributes:
        expires_in: seconds from the moment its request was sent.
        refresh_in: likewise, until the issuer wants it renewed; or None.
    """

    expires_in: float
    refresh_in: float | None


class UnusableAnswerError(Exception):
    """The answer is no JSON object: something else answers in the service's place."""


class Exchange:
    """The requests of one attempt, all of one thread; it also bounds each of them.

    Args:
        timeout: seconds for all requests together.
        connect_timeout: seconds for a connection at most; None: a share of what is left.
        clock: POSIX seconds, to compare with the service's `Date`.
        monotonic: seconds, for the bound.

    Attributes:
        answer: the answer to the last request, or None when there was none to it.
        requests: how many requests were sent.
    """

    def __init__(
        self,
        timeout: float,
        *,
        connect_timeout: float | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answer: Answer | None = None
        self.requests = 0
        self._lifetimes: dict[str, Lifetime] = {}
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._monotonic = monotonic
        self._end = monotonic() + timeout

    @property
    def remaining(self) -> float:
        """Seconds that are left; at least a little, for a request that is refused needs less."""
        return max((self._end - self._monotonic()) * _MARGIN, 0.05)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Make this the exchange that the hooks write to, in this thread, within the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def lifetime_of(self, token: str) -> Lifetime | None:
        """Return what the issuer said about a token, if it came in this exchange."""
        return self._lifetimes.get(digest(token))

    def sent(self, options: dict[str, Any]) -> None:
        """Note a request, and bound it by what is left."""
        self.requests += 1
        self.answer = None
        connect = min(self.remaining * _CONNECT, self._connect_timeout or self.remaining)
        options["connection_timeout"] = min(connect, options.get("connection_timeout", connect))
        options["read_timeout"] = self.remaining - options["connection_timeout"]

    def received(self, url: str, status: int, headers: Mapping[str, str], text: str) -> None:
        """Note an answer."""
        body = _json_object(text)
        skew = _skew(headers, self._clock())
        body_or_none = body if body is not None else {}
        description = str(body_or_none.get("error_description") or "")
        found = re.match(r"AADSTS(\d+)", description)
        parts = urlsplit(url)
        self.answer = Answer(
            origin=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            status=status,
            retry_after=_retry_after(headers, self._clock() - (skew or 0.0)),
            error=str(body_or_none.get("error") or "")[:64],
            code=found.group(1) if found else "",
            description=description,
            skew=skew,
            is_json=body is not None,
        )
        token = body_or_none.get("access_token")
        if isinstance(token, str):
            served = self._clock() - (skew or 0.0)
            lifetime = _lifetime(body_or_none, served)
            if lifetime:
                self._lifetimes[digest(token)] = lifetime


def is_watched() -> bool:
    """Return whether this thread is signing in for us."""
    return _CURRENT.get() is not None


def digest(token: str) -> str:
    """Return what a token is recognised by without being kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def hooks() -> dict[str, Callable[[Any], None]]:
    """Return the keyword arguments that let azure-core tell the current exchange."""
    return {"raw_request_hook": _on_request, "raw_response_hook": _on_response}


def _on_request(request: Any) -> None:
    exchange = _CURRENT.get()
    if exchange:
        exchange.sent(request.context.options)


def _on_response(response: Any) -> None:
    exchange = _CURRENT.get()
    if exchange:
        answer = response.http_response
        text = answer.text(encoding="utf-8")
        exchange.received(response.http_request.url, answer.status_code, answer.headers, text)
        if answer.status_code == 200 and exchange.answer and not exchange.answer.is_json:
            # MSAL would write the body into the log, and half a body can hold a whole token.
            raise UnusableAnswerError


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _lifetime(body: Mapping[str, Any], served: float) -> Lifetime | None:
    """Return how long a token lives, independent of the local clock.

    `expires_in` is relative already. The managed-identity endpoint serves one token many times
    and names an absolute `expires_on` too, in POSIX seconds of its own clock: the earlier counts,
    unless it is past by the service's own `Date`, for nobody hands out a dead token.

    Args:
        body: of the answer.
        served: POSIX seconds by the service's clock, from its `Date` header.
    """
    expires_in, expires_on = _number(body.get("expires_in")), _number(body.get("expires_on"))
    if expires_on is not None:
        remaining = expires_on - served
        if expires_in is None or 0 < remaining < expires_in:
            expires_in = remaining
    return None if expires_in is None else Lifetime(expires_in, _number(body.get("refresh_in")))


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _skew(headers: Mapping[str, str], now: float) -> float | None:
    """Return by how many seconds the local clock is ahead of the `Date` header (RFC 9110)."""
    try:
        return now - parsedate_to_datetime(headers["Date"]).replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return `Retry-After` in seconds; it may be a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After")
    if not value:
        return None
    number = _number(value)
    if number is None:
        try:
            number = parsedate_to_datetime(value).replace(tzinfo=UTC).timestamp() - now
        except (ValueError, TypeError):
            return None
    return min(max(0.0, number), _LONGEST_WAIT)
