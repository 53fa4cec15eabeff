"""The token: whether one can be had, how long it lives, and whom it is for."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightspeed_azure.check.claims import ROLE, audience_for, claims_of, has_role
from lightspeed_azure.check.configuration import name_of
from lightspeed_azure.check.finding import Finding, ill, look, of_problem, well
from lightspeed_azure.errors import LightspeedAzureError, TokenError
from lightspeed_azure.tokens.identity import Identity

TOKEN, AUDIENCE, ROLES = "token", "audience", "role"

_ASK = "Ask Azure with --inference MODEL"


@dataclass(frozen=True, slots=True)
class Acquired:
    """What became of asking for a token; holds no token.

    Attributes:
        seconds: how long it took.
        remaining: seconds that it lives from now.
        claims: what stands in it; None for a token that cannot be read.
    """

    seconds: float
    remaining: float
    claims: Mapping[str, Any] | None


def acquired(identity: Identity, *, monotonic: Callable[[], float] = time.monotonic) -> Acquired:
    """Ask for a token as the service does; may wait for the identity's deadline.

    Raises:
        TokenError: none can be had.
    """
    started = monotonic()
    token = identity.get_token()
    seconds = monotonic() - started
    return Acquired(seconds, identity.status().remaining or 0.0, claims_of(token))


def of_token(identity: Identity, endpoint: str | None, *, asked: bool = False) -> Iterator[Finding]:
    """Yield whether an identity gets a token that an endpoint accepts.

    Args:
        identity: whose token.
        endpoint: the provider's base_url, None when it is not known.
        asked: whether Azure is asked a question too, which answers what a token does not tell.
    """
    question = name_of(identity.config, TOKEN)
    try:
        got = acquired(identity)
    except TokenError as error:
        more = f" ({error.link})" if error.link else ""
        yield ill(question, error.message, (error.cure or "See docs/credentials.md") + more)
        return
    except LightspeedAzureError as error:
        yield of_problem(question, str(error))
        return
    claims = got.claims
    who = ""
    if claims:
        application = claims.get("appid") or claims.get("azp") or claims.get("oid")
        who = f", tenant {claims.get('tid')}, application {application}"
    yield well(question, f"in {got.seconds:.1f} s, lives {lifetime(got.remaining)}{who}")
    if claims is None:
        if not asked:
            yield look(AUDIENCE, "the token is opaque, so its audience is not known", _ASK)
        return
    yield from _of_audience(claims, endpoint, asked=asked)
    yield from _of_roles(claims, asked=asked)


def lifetime(seconds: float) -> str:
    """Return a time to live for people: `59 min`."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _of_audience(
    claims: Mapping[str, Any], endpoint: str | None, *, asked: bool
) -> Iterator[Finding]:
    audience = str(claims.get("aud"))
    expected = audience_for(endpoint) if endpoint else None
    if expected is None:
        known = "its endpoint is not known here" if endpoint is None else "not a host of Azure's"
        yield well(AUDIENCE, f"{audience} ({known})")
    elif not audience.startswith("https://"):
        if not asked:
            yield look(AUDIENCE, f"{audience}, an id, which cannot be compared", _ASK)
    elif audience.rstrip("/") in (expected, "https://ai.azure.com"):
        yield well(AUDIENCE, audience)
    else:
        cure = f"Set scope to {expected}/.default, or choose the endpoint's cloud"
        yield ill(AUDIENCE, f"{audience}; the endpoint takes {expected}", cure)


def _of_roles(claims: Mapping[str, Any], *, asked: bool) -> Iterator[Finding]:
    if has_role(claims):
        yield well(ROLES, ROLE)
    elif not asked:
        found = "is not known: Azure keeps role assignments on the resource, not in the token"
        yield look(ROLES, found, _ASK)
