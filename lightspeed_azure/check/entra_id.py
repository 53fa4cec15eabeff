"""Checks of Entra ID: whether it can be reached, the clocks, and the token that it issues."""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from lightspeed_azure.check.claims import ROLE, audience_for, claims_of, has_role
from lightspeed_azure.check.configuration import name_of
from lightspeed_azure.check.finding import Finding, failed, from_problem, ok, warning
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.errors import LightspeedAzureError, TokenError
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.tokens.identity import Identity

AUTHORITY, CLOCK, TOKEN, AUDIENCE, ROLES = "authority", "clock", "token", "audience", "role"

TOLERATED = 60.0
"""Seconds of clock difference that need no warning."""

LIMIT = 300.0
"""Seconds of clock difference that Entra ID accepts."""

TIMEOUT = 10.0

_ASK = "Ask Azure with --inference MODEL"


def check_authority(
    block: AzureEntraIdConfiguration, *, clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Check whether an identity's authority can be reached, and how far the clocks are apart.

    Args:
        block: the identity.
        clock: returns POSIX seconds.
    """
    question = name_of(block, AUTHORITY)
    if block.kind.endpoint or not block.kind.needs_azure:
        yield ok(question, "not asked directly by this kind of credential")
        return
    tenant = block.tenant_id or "organizations"
    url = f"{block.authority_host}/{tenant}/v2.0/.well-known/openid-configuration"
    try:
        sent = clock()
        answer = _get(url, block.ca_bundle)
        between = (sent + clock()) / 2
    except OSError as error:
        # requests raises a plain OSError for a CA bundle that does not exist, and nothing else.
        failure = network_failure(error) if type(error) is not OSError else None
        what = f"{shown(url)}: {failure.words}" if failure else "the CA bundle cannot be read"
        cure = "Check ca_bundle, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
        if failure:
            cure = failure.cure(url_key="authority_host", ca_key="ca_bundle")
        yield failed(question, what, cure)
        return
    if answer.status_code == 400:
        yield failed(
            question,
            f"{block.authority_host} has no tenant {tenant}",
            "Correct tenant_id, or choose another cloud",
        )
    elif not answer.ok:
        cure = "Check authority_host, and whether a proxy answers in its place"
        yield failed(question, f"{block.authority_host}: HTTP {answer.status_code}", cure)
    else:
        yield ok(question, f"{block.authority_host} answers, its certificate is trusted")
    yield from _check_clock(answer.headers.get("date", ""), between)


def _get(url: str, ca_bundle: Path | None) -> Any:
    """Send one GET as azure-core sends it, without following redirects.

    azure-core's transport is requests, which honours HTTPS_PROXY, HTTP_PROXY, NO_PROXY (networks
    too), REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and trusts certifi's authorities otherwise.

    Raises:
        OSError: there is no answer; the errors of requests are OSErrors.
    """
    import requests  # noqa: PLC0415 - 0.1 s

    verify = str(ca_bundle) if ca_bundle else True
    return requests.get(url, verify=verify, timeout=TIMEOUT, allow_redirects=False)


def _check_clock(date: str, now: float) -> Iterator[Finding]:
    try:
        ahead = now - parsedate_to_datetime(date).timestamp() - 0.5  # the header has whole seconds
    except (TypeError, ValueError):
        yield warning(CLOCK, "Entra ID sends no date")
        return
    way = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Entra ID's"
    if abs(ahead) <= TOLERATED:
        yield ok(CLOCK, "agrees with Entra ID's" if abs(ahead) < 2 else way)
    elif abs(ahead) <= LIMIT:
        yield warning(CLOCK, way, "Synchronize this machine's clock (NTP)")
    else:
        yield failed(
            CLOCK, f"{way}: tokens and assertions are refused", "Synchronize the clock (NTP)"
        )


def check_token(
    identity: Identity, endpoint: str | None, *, asked: bool = False
) -> Iterator[Finding]:
    """Check whether an identity gets a token that an endpoint accepts; may wait for its deadline.

    Args:
        identity: the identity.
        endpoint: the provider's base_url, or None when it is not known.
        asked: whether Azure is asked a question too, which answers what the token does not.
    """
    question = name_of(identity.config, TOKEN)
    started = time.monotonic()
    try:
        token = identity.get_token()
    except TokenError as error:
        more = f" ({error.link})" if error.link else ""
        yield failed(question, error.message, (error.cure or "See docs/credentials.md") + more)
        return
    except LightspeedAzureError as error:
        yield from_problem(question, str(error))
        return
    seconds = time.monotonic() - started
    remaining = identity.status().remaining or 0.0
    claims = claims_of(token)
    who = ""
    if claims:
        application = claims.get("appid") or claims.get("azp") or claims.get("oid")
        who = f", tenant {claims.get('tid')}, application {application}"
    yield ok(question, f"in {seconds:.1f} s, lives {lifetime(remaining)}{who}")
    if claims is None:
        if not asked:
            yield warning(AUDIENCE, "the token is opaque, so its audience is not known", _ASK)
        return
    yield from _check_audience(claims, endpoint, asked=asked)
    yield from _check_roles(claims, asked=asked)


def lifetime(seconds: float) -> str:
    """Format a number of seconds for people, such as `59 min`."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _check_audience(
    claims: Mapping[str, Any], endpoint: str | None, *, asked: bool
) -> Iterator[Finding]:
    audience = str(claims.get("aud"))
    expected = audience_for(endpoint) if endpoint else None
    if expected is None:
        known = "its endpoint is not known here" if endpoint is None else "not a host of Azure's"
        yield ok(AUDIENCE, f"{audience} ({known})")
    elif not audience.startswith("https://"):
        if not asked:
            yield warning(AUDIENCE, f"{audience}, an id, which cannot be compared", _ASK)
    elif audience.rstrip("/") in (expected, "https://ai.azure.com"):
        yield ok(AUDIENCE, audience)
    else:
        cure = f"Set scope to {expected}/.default, or choose the endpoint's cloud"
        yield failed(AUDIENCE, f"{audience}; the endpoint takes {expected}", cure)


def _check_roles(claims: Mapping[str, Any], *, asked: bool) -> Iterator[Finding]:
    if has_role(claims):
        yield ok(ROLES, ROLE)
    elif not asked:
        found = "is not known: Azure keeps role assignments on the resource, not in the token"
        yield warning(ROLES, found, _ASK)
