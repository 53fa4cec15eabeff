"""The `proxy.inbound:` block: who may call the proxy."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.config.problems import (
    LocatedConfigurationError,
    Problem,
    closest,
    unknown_key,
)
from lightspeed_azure.config.values import (
    SECONDS,
    Seconds,
    boolean,
    file_path,
    http_url,
    plain_text,
)
from lightspeed_azure.secrets import RedactedDict

ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519", "Ed448"),
)
"""The asymmetric ones of RFC 7518, RFC 8037 and RFC 9864: with others, whoever verifies could sign."""


def _texts(value: Any) -> tuple[str, ...]:
    """Return texts exactly as they are written; a single one may stand without a list."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list of texts")  # noqa: TRY004 - pydantic collects ValueError
    return tuple(plain_text(item) for item in items)


def _algorithms(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    if not names:
        raise ValueError("is empty; name what the issuer signs with, such as RS256")
    if any(name.lower() == "none" or name.upper().startswith("HS") for name in names):
        raise ValueError(
            "must name asymmetric algorithms only: with none anybody, and with HS* whoever can "
            "verify a token, could make one"
        )
    if not set(names) <= set(ALGORITHMS):
        raise ValueError(f"must name some of {', '.join(ALGORITHMS)}")
    return names


def _scopes(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    # RFC 6749, section 3.3.
    if not all(re.fullmatch(r"[!#-\[\]-~]+", name) for name in names):
        raise ValueError("must be scopes: without spaces, quotation marks and backslashes")
    return names


def _required_claims(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of claims to the values that they may have")  # noqa: TRY004
    claims = {plain_text(name): _texts(values) for name, values in value.items()}
    if not all(claims.values()):
        raise ValueError("has a claim without a value; give one, or remove the claim")
    return claims


class _Inbound(Block):
    """What the kinds have in common: a key of another kind is told from one that no kind has."""

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return the keys that this kind does not have: ignored, they would seem to protect."""
        return [
            Problem((name,), _foreign(name, cls.model_fields))
            for name in given
            if name not in cls.model_fields
        ]


class JwtInbound(_Inbound):
    """`kind: jwt`: callers show a JWT that a trusted issuer has signed.

    Attributes:
        kind: `jwt`.
        issuer: the accepted values of the claim `iss`, compared character by character.
        jwks_uri: the URL of the keys, if not the one that OpenID Connect Discovery names; may be the
            address inside the cluster of an issuer with a public name.
        audience: the texts of which `aud` must hold one.
        algorithms: the accepted algorithms of signatures.
        leeway: seconds by which the clocks may differ.
        required_scopes: all of these must be in `scope` or `scp`.
        required_claims: each of these claims must be, or hold, one of the values; a dot leads into
            a claim, as in `realm_access.roles`.
        ca_bundle: PEM file with the authorities that may have signed the issuer's certificate.
        key_refresh: seconds after which the keys are fetched again in the background.
        key_cooldown: seconds between two fetches that an unknown key or a failure may cause.
        allow_insecure: whether keys may be fetched over plain HTTP from another machine.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    kind: Literal["jwt"] = "jwt"
    issuer: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    jwks_uri: Annotated[str | None, BeforeValidator(http_url)] = None
    audience: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    algorithms: Annotated[tuple[str, ...], BeforeValidator(_algorithms)] = ("RS256", "ES256")
    leeway: Annotated[float, Field(ge=0, le=600, strict=True, allow_inf_nan=False), SECONDS] = 30.0
    required_scopes: Annotated[tuple[str, ...], BeforeValidator(_scopes)] = ()
    required_claims: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_required_claims)] = (
        Field(default_factory=dict)
    )
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    key_refresh: Annotated[
        float, Field(gt=0, le=86400, strict=True, allow_inf_nan=False), SECONDS
    ] = 300.0
    key_cooldown: Seconds = 10.0
    allow_insecure: Annotated[StrictBool, BeforeValidator(boolean)] = False

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is missing, and URLs that would fetch the keys without protection."""
        needed = [Problem((name,), text) for name, text in _NEEDED.items() if not given.get(name)]
        return super().cross_check(given) + needed + _transport(given)


class ApiKeysInbound(_Inbound):
    """`kind: api_keys`: callers show an API key.

    Attributes:
        kind: `api_keys`.
        api_keys_file: file, or mounted directory, with the keys; read again when it changes.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    kind: Literal["api_keys"] = "api_keys"
    api_keys_file: Annotated[Path, BeforeValidator(file_path)]

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return that the file is missing."""
        problems = super().cross_check(given)
        if "api_keys_file" not in given:
            problems.append(Problem(("api_keys_file",), "is missing; name the file with the keys"))
        return problems


class OpenInbound(_Inbound):
    """`kind: none`: callers show nothing.

    Attributes:
        kind: `none`.
        allow_unauthenticated: whether the proxy may listen on more than loopback.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    kind: Literal["none"] = "none"
    allow_unauthenticated: Annotated[StrictBool, BeforeValidator(boolean)] = False


InboundConfiguration = JwtInbound | ApiKeysInbound | OpenInbound
"""Who may call: callers with a JWT, callers with an API key, or everyone."""

KINDS: Mapping[str, type[JwtInbound | ApiKeysInbound | OpenInbound]] = {
    "jwt": JwtInbound,
    "api_keys": ApiKeysInbound,
    "none": OpenInbound,
}


def inbound(value: Any) -> InboundConfiguration:
    """Return the block of the kind that `value` names; without a kind, `none`.

    Args:
        value: a block, or a map with its keys.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """
    if isinstance(value, InboundConfiguration):
        return value
    if not isinstance(value, Mapping):
        raise LocatedConfigurationError([Problem((), "must be a map; write kind: jwt below it")])
    given: dict[str, Any] = RedactedDict((str(name), value[name]) for name in value)
    kind = given.get("kind")
    kind = "none" if kind is None else kind.strip() if isinstance(kind, str) else kind
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind](**RedactedDict({**given, "kind": kind}))
    known = {name for block in KINDS.values() for name in block.model_fields}
    problems = [Problem(("kind",), f"must be one of {', '.join(KINDS)}")]
    problems += [Problem((name,), unknown_key(name, known)) for name in given if name not in known]
    raise LocatedConfigurationError(problems)


def _foreign(name: str, own: Collection[str]) -> str:
    """Return the text for a key that a kind does not have."""
    owners = {key: kind for kind, block in KINDS.items() for key in block.model_fields}
    if name in owners:
        return f"belongs to kind: {owners[name]}; remove it, or change the kind"
    return unknown_key(name, own if closest(name, own) or not closest(name, owners) else owners)


_NEEDED = {
    "issuer": "is missing; give the text of the claim iss in the callers' tokens",
    "audience": "is missing; give the text of aud that says a token is meant for this proxy",
}


def _transport(given: Mapping[str, Any]) -> list[Problem]:
    """Return URLs without TLS, and issuers that are not URLs and so do not lead to their keys."""
    strict = boolean(given.get("allow_insecure", False)) is not True
    uri = given.get("jwks_uri")
    if isinstance(uri, str):
        return [Problem(("jwks_uri",), _PLAIN)] if strict and is_plain(uri) else []
    issuers = given.get("issuer")
    listed = [issuers] if isinstance(issuers, str) else issuers
    problems = []
    for number, issuer in enumerate(listed if isinstance(listed, list | tuple) else ()):
        key = ("issuer",) if isinstance(issuers, str) else ("issuer", number)
        if not isinstance(issuer, str) or not issuer.strip():
            continue
        if not re.match(r"https?://[^/]", issuer.strip()):
            text = "is no URL, so it does not lead to its keys; give jwks_uri"
            problems.append(Problem(key, text))
        elif strict and is_plain(issuer):
            problems.append(Problem(key, _PLAIN))
    return problems


_PLAIN = (
    "would fetch the keys over plain HTTP from another machine, and anyone who can tamper with them "
    "could forge tokens; use https, or set allow_insecure: true if something else protects the "
    "connection"
)


def is_plain(url: str) -> bool:
    """Return whether a URL leads to another machine without TLS."""
    try:
        parts = urlsplit(url.strip())
        return parts.scheme.lower() == "http" and not is_loopback(parts.hostname or "")
    except ValueError:
        return False
