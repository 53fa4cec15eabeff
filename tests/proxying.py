"""A proxy in front of a stack, in this process, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.gateway.proxy import Proxy, running


@asynccontextmanager
async def proxying(
    stack: str | LlamaStackConfiguration, manager: AzureEntraIDManager, **config: Any
) -> AsyncIterator[Proxy]:
    """Run a proxy at free ports while the block lasts."""
    if isinstance(stack, str):
        stack = LlamaStackConfiguration(url=stack)
    settings = ProxyConfiguration(**{"port": 0, "admin_port": 0, **config})
    async with running(Proxy(stack, settings, manager)) as proxy:
        yield proxy


def caller(proxy: Proxy, **options: Any) -> httpx.AsyncClient:
    """Return a client of the proxy's that knows nothing of Entra ID."""
    return httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=30, **options)
