"""The asynchronous client that a synchronous one stands before, in this process or a forked child."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lightspeed_azure.clients.holder import AsyncLlamaStackClientHolder
from lightspeed_azure.concurrency.loop_thread import OnPortal
from lightspeed_azure.config import LlamaStackConfiguration


class Held:
    """An asynchronous holder on the portal's loop."""

    def __init__(self, holder: AsyncLlamaStackClientHolder) -> None:
        self.holder = holder
        self._loading = asyncio.Lock()

    async def loaded(self, config: LlamaStackConfiguration) -> Any:
        """Return the client; a holder that a forked child has made is loaded first."""
        async with self._loading:
            if not self.holder.is_loaded:
                await self.holder.load(config)
        return self.holder.get_client()

    async def close(self) -> None:
        """Close the connections, or shut the stack inside the process down."""
        await self.holder.close()


class Source:
    """Runs what is asked of an asynchronous client.

    Attributes:
        config: where the stack is; what a forked child loads.
        client: the asynchronous client.

    Args:
        on_portal: where the holder is.
        config: see above.
        held: the holder that made the client.
        client: see above.
    """

    def __init__(
        self,
        on_portal: OnPortal[Held],
        config: LlamaStackConfiguration,
        held: Held,
        client: Any,
    ) -> None:
        self.config = config
        self.client = client
        self._on_portal = on_portal
        self._held = held
        self._data, self._shown = client.carried, client.shown

    def run[R](self, use: Callable[[Any], Awaitable[R]]) -> R:
        """Return what `use` returns for the asynchronous client; waits for it."""

        async def used(held: Held) -> R:
            if held is not self._held:  # this is a child of the process that made the client
                client = await held.loaded(self.config)
                self.client = client.carrying(self._data, self._shown) if self._data else client
                self._held = held
            return await use(self.client)

        return self._on_portal.run(used)

    def copied(self, copy: Callable[[Any], Any]) -> "Source":
        """Return the source of a copy of the client."""

        async def copied(client: Any) -> Any:
            return copy(client)

        client = self.run(copied)
        return self.showing(self._held, client)

    def showing(self, held: Held, client: Any) -> "Source":
        """Return the source of another client, on the same connections or the same stack."""
        return Source(self._on_portal, self.config, held, client)


class StandsBefore:
    """A synchronous library client, by the asynchronous one that it stands before."""

    _source: Source

    @property
    def async_client(self) -> Any:
        """The client on the portal's loop."""
        return self._source.client

    @property
    def provider_data(self) -> Any:
        """The client's own provider data."""
        return self._source.client.provider_data

    @provider_data.setter
    def provider_data(self, data: Any) -> None:
        self._source.client.provider_data = data
