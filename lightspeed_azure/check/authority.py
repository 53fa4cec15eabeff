"""Entra ID itself: whether it answers, whom its certificate names, and what time it is there."""

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

from lightspeed_azure.check.configuration import name_of
from lightspeed_azure.check.finding import Finding, ill, look, well
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.tokens.failures import unreachable
from lightspeed_azure.tokens.network import get

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
    if block.credential_kind in ("managed_identity", "credential"):
        yield well(question, "not asked directly by this kind of credential")
        return
    tenant = block.tenant_id or "organizations"
    url = f"{block.authority_host}/{tenant}/v2.0/.well-known/openid-configuration"
    try:
        sent = clock()
        answer = get(url, ca_bundle=block.ca_bundle, timeout=TIMEOUT)
        between = (sent + clock()) / 2
    except OSError as error:
        service = f"Entra ID at {block.authority_host}"
        failure = unreachable(error, service, block)
        what = failure.message if failure else f"{service} cannot be asked ({type(error).__name__})"
        yield ill(question, what, failure.cure if failure else "Check ca_bundle and authority_host")
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
