"""Entra ID itself: whether it answers, whom its certificate names, and what time it is there."""

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from lightspeed_azure.check.configuration import name_of
from lightspeed_azure.check.finding import Finding, ill, look, well
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.tokens.failures import unreachable

AUTHORITY, CLOCK = "authority", "clock"

TOLERATED = 60.0
"""Seconds of difference that nobody minds: Entra ID itself allows for 300."""

LIMIT = 300.0

TIMEOUT = 10.0


def of_authority(
    block: AzureEntraIdConfiguration, *, clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Yield whether an identity's authority can be reached, and how far the clocks are apart.

    Args:
        block: the identity.
        clock: POSIX seconds.
    """
    question = name_of(block, AUTHORITY)
    if block.kind.endpoint or not block.kind.needs_azure:
        yield well(question, "not asked directly by this kind of credential")
        return
    tenant = block.tenant_id or "organizations"
    url = f"{block.authority_host}/{tenant}/v2.0/.well-known/openid-configuration"
    try:
        sent = clock()
        answer = _get(url, block.ca_bundle)
        between = (sent + clock()) / 2
    except OSError as error:
        failure = unreachable(error, block)
        what = f"Entra ID at {block.authority_host} cannot be asked ({type(error).__name__})"
        cure = "Check ca_bundle and authority_host"
        yield ill(question, failure.message if failure else what, failure.cure if failure else cure)
        return
    if answer.status_code == 400:
        yield ill(
            question,
            f"{block.authority_host} has no tenant {tenant}",
            "Correct tenant_id, or choose another cloud",
        )
    elif not answer.ok:
        cure = "Check authority_host, and whether a proxy answers in its place"
        yield ill(question, f"{block.authority_host}: HTTP {answer.status_code}", cure)
    else:
        yield well(question, f"{block.authority_host} answers, its certificate is trusted")
    yield from _of_clock(answer.headers.get("date", ""), between)


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


def _of_clock(date: str, now: float) -> Iterator[Finding]:
    try:
        ahead = now - parsedate_to_datetime(date).timestamp() - 0.5  # the header has whole seconds
    except (TypeError, ValueError):
        yield look(CLOCK, "Entra ID does not say what time it is")
        return
    way = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Entra ID's"
    if abs(ahead) <= TOLERATED:
        yield well(CLOCK, "agrees with Entra ID's" if abs(ahead) < 2 else way)
    elif abs(ahead) <= LIMIT:
        yield look(CLOCK, way, "Synchronise this machine's clock (NTP)")
    else:
        yield ill(CLOCK, f"{way}: tokens and assertions are refused", "Synchronise the clock (NTP)")
