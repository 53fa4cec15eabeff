"""What the tests of inbound authentication share."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from issuer import AUDIENCE, Issuer
from token_cache_fakes import FakeClock

from lightspeed_azure.config.inbound import JwtInbound
from lightspeed_azure.proxy.inbound import Headers, Inbound, InboundRejected
from lightspeed_azure.proxy.inbound.bearer_jwt import BearerJwt


class Pause:
    """Stands in for sleeping: ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._end = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """Wait for `end`."""
        self.asked.append(seconds)
        await self._end.wait()
        self._end.clear()

    def end(self) -> None:
        """Let the sleeper go on."""
        self._end.set()


def clock_now() -> FakeClock:
    """Return a clock that stands still at this moment."""
    clock = FakeClock()
    clock.wall_now = time.time()
    return clock


def jwt_config(where: Issuer, /, **more: Any) -> JwtInbound:
    """Return the configuration for an issuer with the usual name, whose keys are elsewhere."""
    usual = {
        "kind": "jwt",
        "issuer": ["https://sso.example.test/realms/main"],
        "jwks_uri": f"{where.url}/jwks",
        "audience": [AUDIENCE],
    }
    return JwtInbound(**{k: v for k, v in (usual | more).items() if v is not None})


@asynccontextmanager
async def started(
    config: JwtInbound, clock: FakeClock | None = None, pause: Pause | None = None
) -> AsyncIterator[BearerJwt]:
    """Return what judges JWTs, started, with a clock that stands still."""
    inbound = BearerJwt(config, clock=clock or clock_now(), sleep=pause or Pause())
    await inbound.start()
    try:
        yield inbound
    finally:
        await inbound.close()


async def rejection(inbound: Inbound, shown: Headers) -> InboundRejected | None:
    """Return why a caller is not let in, None for one who is."""
    try:
        await inbound.admit(shown)
    except InboundRejected as rejected:
        return rejected
    return None


async def reason(inbound: Inbound, shown: Headers) -> str | None:
    """Return the reason alone."""
    rejected = await rejection(inbound, shown)
    return None if rejected is None else str(rejected.reason)
