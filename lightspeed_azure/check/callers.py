"""Who may call the proxy: whether the keys that callers are checked against can be read."""

import asyncio
from collections.abc import Iterator

from lightspeed_azure.check.finding import Finding, ill, look, well
from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.config.inbound import InboundConfiguration, JwtInbound
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import InboundStatus, check_exposure, make_inbound

CALLERS = "callers"


def of_callers(proxy: ProxyConfiguration) -> Iterator[Finding]:
    """Yield whether `proxy.inbound` can let anyone in; an issuer is asked for its keys.

    Args:
        proxy: the proxy's configuration.
    """
    inbound = proxy.inbound
    try:
        check_exposure(inbound, proxy.host)
        if inbound.kind == "jwt":
            yield from _of_issuers(inbound)
        elif inbound.kind == "api_keys":
            keys = asyncio.run(_status(inbound)).keys
            yield well(CALLERS, f"show a key of {inbound.api_keys_file} (keys: {keys})")
        else:
            yield well(CALLERS, f"show nothing; everyone who reaches {proxy.host} may call")
    except InvalidConfigurationError as error:
        yield _ill(str(error))


def _of_issuers(inbound: JwtInbound) -> Iterator[Finding]:
    """Yield whether each issuer's keys can be fetched; with jwks_uri all have the same."""
    together = [inbound.issuer] if inbound.jwks_uri else [(each,) for each in inbound.issuer]
    for issuers in together:
        try:
            status = asyncio.run(_status(inbound.model_copy(update={"issuer": issuers})))
        except ImportError:
            found = f"show a JWT; the keys of {', '.join(inbound.issuer)} were not asked for"
            yield look(CALLERS, found, "pip install 'lightspeed-azure[proxy]'")
            return
        if status.last_error:
            yield _ill(status.last_error)
        else:
            yield well(CALLERS, f"show a JWT of {', '.join(issuers)} (keys: {status.keys})")


def _ill(text: str) -> Finding:
    """Return the finding for an error whose text ends with its cure."""
    what, _, cure = text.rpartition("; ")
    return ill(CALLERS, what, cure[:1].upper() + cure[1:])


async def _status(config: InboundConfiguration) -> InboundStatus:
    """Return the state after the keys have been read once."""
    inbound = make_inbound(config)
    try:
        await inbound.start()
        return inbound.status()
    finally:
        await inbound.close()
