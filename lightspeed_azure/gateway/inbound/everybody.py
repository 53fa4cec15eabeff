"""Let everybody in: on this machine, or where something else decides."""

import functools
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.gateway.inbound.presented import Headers
from lightspeed_azure.gateway.inbound.rejected import Reason, Rejected

_LONGEST = 300
"""Characters that a scheme, a host name and a port have at most (RFC 1035, section 2.3.4)."""


@dataclass(frozen=True, slots=True)
class InboundStatus:
    """A snapshot for people; it holds no secret.

    Attributes:
        kind: `jwt`, `api_keys` or `none`.
        ready: whether a good caller would be let in now.
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
    """Lets everybody in, as an operator said in words."""

    async def start(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Nothing runs."""

    async def admit(self, headers: Headers) -> None:
        """Let the request in."""
        del headers

    def status(self) -> InboundStatus:
        """Return that everybody is let in."""
        return InboundStatus("none", ready=True, keys=0, reloads=0, failures=0, last_error="")


class OnThisMachine(Everybody):
    """Lets in whoever calls this machine by its own name.

    A web page that somebody looks at can reach loopback, too: by a name of its own that leads there
    (DNS rebinding), or with a plain POST. Browsers say in Host and Origin whose page it is.
    """

    async def admit(self, headers: Headers) -> None:
        """Let the request in, unless it is a web page's.

        Raises:
            Rejected: Host or Origin names another machine.
        """
        shown = [f"//{host}" for host in headers.getall("Host", ())]
        for url in (*shown, *headers.getall("Origin", ())):
            if len(url) > _LONGEST or not _is_here(url):
                raise Rejected(
                    Reason.FOREIGN,
                    "Without authentication the proxy answers only to names of this machine; call "
                    "http://127.0.0.1, or configure proxy.inbound",
                )


@functools.lru_cache(256)
def _is_here(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
