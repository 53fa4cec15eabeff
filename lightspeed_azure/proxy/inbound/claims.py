"""What a token must claim to be let in (RFC 7519, section 4.1; RFC 9068)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import InboundConfiguration
from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected

_logger = logging.getLogger("lightspeed_azure.inbound")

LOG_PAUSE = 60.0
"""Seconds between two log lines about the same claim: callers decide how often it is wrong."""

_TYPES = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
"""Of `typ`, where there is one: no logout token, no DPoP proof (RFC 8725, section 3.11)."""


@dataclass(frozen=True, slots=True)
class Validity:
    """When a token is good, in POSIX seconds, the leeway included: `begins` <= now < `ends`."""

    begins: float
    ends: float


class ClaimRules:
    """Judges headers and claims by the configuration.

    Args:
        config: the rules.
        clock: gives the time.
    """

    def __init__(self, config: InboundConfiguration, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._next_log: dict[str, float] = {}
        self._config = config
        self._algorithms = frozenset(config.algorithms)
        self._issuers = frozenset(config.issuer)
        self._audience = frozenset(config.audience)
        self._scopes = frozenset(config.required_scopes)

    def algorithm(self, header: Mapping[str, Any]) -> str:
        """Return the algorithm of a header that can be accepted.

        Raises:
            Rejected: it cannot.
        """
        alg = header.get("alg")
        if not isinstance(alg, str) or alg not in self._algorithms:
            self._log("alg", _texts(alg), "algorithms", self._config.algorithms)
            raise Rejected(Reason.ALGORITHM, "Signed with an algorithm that is not accepted")
        # No extension is understood here, so none may be critical (RFC 7515, section 4.1.11).
        if "crit" in header or "b64" in header:
            raise Rejected(Reason.CRITICAL_HEADER, "The token has a critical header parameter")
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise Rejected(Reason.TOKEN_TYPE, "Another type of token than an access token")
        return alg

    def issuer(self, claims: Mapping[str, Any]) -> str:
        """Return the issuer, compared letter by letter.

        Raises:
            Rejected: it is none of the configured ones.
        """
        issuer = claims.get("iss")
        if not isinstance(issuer, str):
            raise Rejected(Reason.MISSING_CLAIM, "The token has no claim iss")
        if issuer not in self._issuers:
            self._log("iss", [issuer], "issuer", self._config.issuer)
            raise Rejected(Reason.ISSUER, "The token is from another issuer")
        return issuer

    def validity(self, claims: Mapping[str, Any], now: float) -> Validity:
        """Return when a token is good, which it is now, for this audience.

        Raises:
            Rejected: it is not good now, or not meant for this proxy.
        """
        expires = _moment(claims, "exp")
        if expires is None:
            raise Rejected(Reason.MISSING_CLAIM, "The token has no claim exp")
        begins = _moment(claims, "nbf")
        leeway = self._config.leeway
        validity = Validity(0.0 if begins is None else begins - leeway, expires + leeway)
        if now >= validity.ends:
            raise Rejected(Reason.EXPIRED, "The token has expired")
        if now < validity.begins:
            raise Rejected(Reason.NOT_YET_VALID, "The token is not valid yet")
        audience = claims.get("aud")
        if audience is None:
            raise Rejected(Reason.MISSING_CLAIM, "The token has no claim aud")
        if self._audience.isdisjoint(_texts(audience)):
            self._log("aud", _texts(audience), "audience", self._config.audience)
            raise Rejected(Reason.AUDIENCE, "The token is meant for another audience")
        return validity

    def permissions(self, claims: Mapping[str, Any]) -> None:
        """Judge scopes and further claims of a token whose signature is good.

        Raises:
            Rejected: they are not those that are required.
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
            raise Rejected(Reason.SCOPE, "The token lacks a scope", scope=needed)
        for name, values in self._config.required_claims.items():
            if set(values).isdisjoint(_texts(_at(claims, name))):
                raise Rejected(Reason.CLAIM, "The token lacks a claim that is required here")

    def _log(self, claim: str, seen: Sequence[str], key: str, expected: Sequence[str]) -> None:
        """Tell the operator, and never the caller, what a rejected token has and what it should have.

        The token is not verified: whatever it has is shown short and escaped.
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


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate, or None where there is none.

    Raises:
        Rejected: it is no number.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise Rejected(Reason.MISSING_CLAIM, f"The claim {name} is no moment")
    return float(value)


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
