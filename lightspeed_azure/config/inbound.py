"""The `proxy.inbound:` block: who may call the proxy."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StrictBool

from lightspeed_azure.config.block import Block, Problem
from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.config.values import (
    SECONDS,
    Seconds,
    boolean,
    file_path,
    http_url,
    plain_text,
)

type Kind = Literal["jwt", "api_keys", "none"]
KINDS = ("jwt", "api_keys", "none")

ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519", "Ed448"),
)
"""The asymmetric ones of RFC 7518, RFC 8037 and RFC 9864; whoever can verify with another could sign."""


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


class InboundConfiguration(Block):
    """Who may call: holders of a JWT, holders of an API key, or everybody.

    Attributes:
        kind: `jwt`, `api_keys` or `none`.
        issuer: the texts that the claim `iss` may have, compared letter by letter.
        jwks_uri: where the keys are, when not where OpenID Connect Discovery says; may be the
            address inside the cluster of an issuer with a name outside.
        audience: the texts of which `aud` must hold one.
        algorithms: what signatures may be made with.
        leeway: seconds by which the clocks may differ.
        required_scopes: all of these must be in `scope` or `scp`.
        required_claims: each of these claims must be, or hold, one of the values; a dot leads into
            a claim, as in `realm_access.roles`.
        ca_bundle: PEM file with the authorities that the issuer's certificate may come from.
        key_refresh: seconds after which the keys are fetched again, behind.
        key_cooldown: seconds between two fetches that an unknown key or a failure may cause.
        allow_insecure: whether keys may be fetched over plain HTTP from another machine.
        api_keys_file: file, or mounted directory, with the keys; read again when it changes.
        allow_unauthenticated: whether `none` may be used on more than loopback.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    kind: Annotated[Kind, BeforeValidator(plain_text)] = "none"
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
    api_keys_file: Annotated[Path | None, BeforeValidator(file_path)] = None
    allow_unauthenticated: Annotated[StrictBool, BeforeValidator(boolean)] = False

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        kind = given.get("kind", "none")
        problems = [
            Problem((name,), f"belongs to kind: {owner}; remove it, or change the kind")
            for name, owner in _OWNERS.items()
            if name in given and kind in KINDS and kind != owner
        ]
        if kind == "jwt":
            problems += [
                Problem((name,), text) for name, text in _NEEDED.items() if not given.get(name)
            ]
            problems += _transport(given)
        if kind == "api_keys" and "api_keys_file" not in given:
            problems.append(Problem(("api_keys_file",), "is missing; name the file with the keys"))
        return problems


_OWNERS = {
    **dict.fromkeys(
        [
            *("issuer", "jwks_uri", "audience", "algorithms", "leeway"),
            *("required_scopes", "required_claims", "ca_bundle"),
            *("key_refresh", "key_cooldown", "allow_insecure"),
        ],
        "jwt",
    ),
    "api_keys_file": "api_keys",
    "allow_unauthenticated": "none",
}
"""Which kind a key belongs to: one that is ignored would leave open what it seems to close."""

_NEEDED = {
    "issuer": "is missing; give the text of the claim iss in the callers' tokens",
    "audience": "is missing; give the text of aud that says a token is meant for this proxy",
}


def _transport(given: Mapping[str, Any]) -> list[Problem]:
    """Refuse keys that anybody on the way could exchange, and issuers that lead to none."""
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
    "would fetch the keys over plain HTTP from another machine, and who exchanges them can make "
    "tokens; use https, or set allow_insecure: true if something else protects that way"
)


def is_plain(url: str) -> bool:
    """Return whether a URL leads to another machine without TLS."""
    try:
        parts = urlsplit(url.strip())
        return parts.scheme.lower() == "http" and not is_loopback(parts.hostname or "")
    except ValueError:
        return False
