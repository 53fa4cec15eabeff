"""Let everyone in: on this machine, or where something else decides."""

import functools
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.proxy.inbound.presented import Headers
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason

_LONGEST = 300
"""More characters than a scheme, a host name and a port can have (RFC 1035, section 2.3.4)."""


@dataclass(frozen=True, slots=True)
class InboundStatus:
    """A snapshot of inbound authentication; it contains no secret.

    Attributes:
        kind: `jwt`, `api_keys` or `none`.
        ready: whether a caller with a good credential would be let in now.
        keys: how many keys are known.
        reloads: how often keys were read or fetched and had changed.
        failures: how often reading or fetching them failed.
        last_error: why it failed last, "" when the last attempt succeeded.
    """

    kind: str
    ready: bool
    keys: int
    reloads: int
    failures: int
    last_error: str


class Everybody:
    """Lets everyone in, as the operator has allowed explicitly."""

    async def start(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Nothing runs."""

    async def admit(self, headers: Headers) -> None:
        """Let the request in."""
        del headers

    def status(self) -> InboundStatus:
        """Return a snapshot: always ready."""
        return InboundStatus("none", ready=True, keys=0, reloads=0, failures=0, last_error="")


class OnThisMachine(Everybody):
    """Lets in requests that address this machine by a loopback name.

    Web pages can reach loopback too: by a domain name of their own that resolves to it (DNS
    rebinding), or with a plain POST. Browsers put the page's name into Host and Origin.
    """

    async def admit(self, headers: Headers) -> None:
        """Let the request in, unless it comes from a web page.

        Raises:
            InboundRejected: Host or Origin names another machine.
        """
        shown = [f"//{host}" for host in headers.getall("Host", ())]
        if not all(is_loopback(_name(url)) for url in (*shown, *headers.getall("Origin", ()))):
            raise InboundRejected(
                Reason.FOREIGN,
                "Without authentication the proxy answers only to names of this machine; call "
                "http://127.0.0.1, or configure proxy.inbound",
            )


def check_operator(headers: Headers, names: Collection[str]) -> None:
    """Refuse requests of web pages to the admin port, which may listen on more than loopback.

    A page can make a domain name resolve to any address, but it cannot send another name than that
    in Host: an address in Host does not come from DNS rebinding.

    Args:
        headers: the request's.
        names: host names by which operators call the port, in lower case.

    Raises:
        InboundRejected: Host is another name, or Origin is another machine.
    """
    hosts = [_name(f"//{host}") for host in headers.getall("Host", ())]
    origins = [_name(origin) for origin in headers.getall("Origin", ())]
    if not all(
        is_loopback(host) or _is_address(host) or host in names for host in hosts
    ) or not all(map(is_loopback, origins)):
        raise InboundRejected(
            Reason.FOREIGN,
            "The admin port answers only to IP addresses, localhost and the names in "
            "proxy.admin_names, and to no web page; call it by its address, or add the name",
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@functools.lru_cache(256)
def _name(url: str) -> str:
    """Return the host of a URL in lower case; "" if there is none."""
    if len(url) > _LONGEST:
        return ""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
