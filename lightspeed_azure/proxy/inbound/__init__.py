"""Who may call the proxy: callers with a JWT, callers with an API key, or everyone on this machine."""

from typing import Protocol

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import InboundConfiguration
from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound.everybody import (
    Everybody,
    InboundStatus,
    OnThisMachine,
    check_operator,
)
from lightspeed_azure.proxy.inbound.presented import Headers
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason

__all__ = [
    "Headers",
    "Inbound",
    "InboundRejected",
    "InboundStatus",
    "Reason",
    "check_exposure",
    "check_operator",
    "make_inbound",
]


class Inbound(Protocol):
    """Decides which requests are let in. Use it from one event loop."""

    async def start(self) -> None:
        """Get ready; succeeds even if the issuer is down: then callers get 503 until it is up.

        Raises:
            InvalidConfigurationError: a file that it needs cannot be used.
        """
        ...

    async def close(self) -> None:
        """End the background tasks."""
        ...

    async def admit(self, headers: Headers) -> None:
        """Let the request in.

        Raises:
            InboundRejected: it is not let in.
        """
        ...

    def status(self) -> InboundStatus:
        """Return a snapshot; never waits."""
        ...


def make_inbound(config: InboundConfiguration, *, clock: Clock = SYSTEM_CLOCK) -> Inbound:
    """Return the inbound authentication of a configuration; nothing is fetched yet."""
    # Only JWTs need joserfc.
    if config.kind == "jwt":
        from lightspeed_azure.proxy.inbound.bearer_jwt import BearerJwt  # noqa: PLC0415

        return BearerJwt(config, clock=clock)
    if config.kind == "api_keys":
        from lightspeed_azure.proxy.inbound.api_keys import ApiKeys  # noqa: PLC0415

        return ApiKeys(config, clock=clock)
    return Everybody() if config.allow_unauthenticated else OnThisMachine()


def check_exposure(config: InboundConfiguration, host: str) -> None:
    """Refuse to serve everyone on more than loopback, unless the operator allows it explicitly.

    Args:
        config: who may call.
        host: the address to listen on.

    Raises:
        InvalidConfigurationError: anyone who reaches this address could use the tokens.
    """
    if config.kind == "none" and not config.allow_unauthenticated and not is_loopback(host):
        raise InvalidConfigurationError(
            "proxy.inbound.kind: is none, and proxy.host is more than this machine, so anyone "
            "who reaches it could use your tokens; set kind: jwt or api_keys, or "
            "allow_unauthenticated: true if something else decides who may call"
        )
