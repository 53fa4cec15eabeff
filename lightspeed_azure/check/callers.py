"""Checks of the proxy's inbound authentication: whether its keys can be read."""

import asyncio
from collections.abc import Iterator

from lightspeed_azure.check.finding import Finding, failed, ok, warning
from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.config.inbound import InboundConfiguration, JwtInbound
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import InboundStatus, check_exposure, make_inbound

CALLERS = "callers"


def check_callers(proxy: ProxyConfiguration) -> Iterator[Finding]:
    """Check whether `proxy.inbound` can admit callers; issuers are asked for their keys.

    Args:
        proxy: the proxy's configuration.
    """
    inbound = proxy.inbound
    try:
        check_exposure(inbound, proxy.host)
        if inbound.kind == "jwt":
            yield from _check_issuers(inbound)
        elif inbound.kind == "api_keys":
            keys = asyncio.run(_status(inbound)).keys
            yield ok(CALLERS, f"show a key of {inbound.api_keys_file} (keys: {keys})")
        else:
            yield ok(CALLERS, f"show nothing; everyone who reaches {proxy.host} may call")
    except InvalidConfigurationError as error:
        yield _failed(str(error))


def _check_issuers(inbound: JwtInbound) -> Iterator[Finding]:
    """Check whether each issuer's keys can be fetched; with jwks_uri all issuers share them."""
    together = [inbound.issuer] if inbound.jwks_uri else [(each,) for each in inbound.issuer]
    for issuers in together:
        try:
            status = asyncio.run(_status(inbound.model_copy(update={"issuer": issuers})))
        except ImportError:
            found = f"show a JWT; the keys of {', '.join(inbound.issuer)} were not asked for"
            yield warning(CALLERS, found, "pip install 'lightspeed-azure[proxy]'")
            return
        if status.last_error:
            yield _failed(status.last_error)
        else:
            yield ok(CALLERS, f"show a JWT of {', '.join(issuers)} (keys: {status.keys})")


def _failed(text: str) -> Finding:
    """Return the finding for an error whose text ends with its cure."""
    what, _, cure = text.rpartition("; ")
    return failed(CALLERS, what, cure[:1].upper() + cure[1:])


async def _status(config: InboundConfiguration) -> InboundStatus:
    """Return the status after reading the keys once."""
    inbound = make_inbound(config)
    try:
        await inbound.start()
        return inbound.status()
    finally:
        await inbound.close()
