"""Replaces what src/client/ogx.py of lightspeed-stack has of `AsyncOgxClientHolder`."""

from importlib import import_module
from typing import Any

import httpx

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.transports import async_http_client

IN_PROCESS = "http://ogx-library"
"""The URL by which lightspeed-stack's agents call a stack inside the process; nothing is sent there."""


def read_provider_data(client: Any) -> dict[str, Any]:
    """Return a client's provider data with the current token; `_provider.py` calls it without the change."""
    return {**client.carried, **(AzureEntraIDManager().build_azure_provider_data() or {})}


class AsyncOgxClientHolder(AsyncLlamaStackClientHolder):
    """The client of the process; whichever client an endpoint holds, its requests carry the token."""

    _agents: httpx.AsyncClient | None = None

    async def load(self, ogx_config: Any, *, allow_insecure: bool | None = None) -> None:
        """Make the client, once."""
        if not self.is_loaded:
            self._given = ogx_config, allow_insecure
            await self._load_from(*self._given)

    async def reload_library_client(self) -> Any:
        """Start the stack inside the process again; running requests end on the one before."""
        await self._load_from(*self._given)
        return self.get_client()

    def for_agents(self) -> dict[str, Any]:
        """Return the arguments of `OgxProvider`: each request looks up the token when it is sent.

        Only requests for Azure's models carry it.
        """
        if self._agents is None:
            self._agents = self._http_client()
        key = getattr(self.get_client(), "api_key", None) or "not-needed"
        url = str(self._agents.base_url).rstrip("/")
        return {"base_url": f"{url}/v1", "api_key": key, "http_client": self._agents}

    async def close(self) -> None:
        """Close the connections, or shut down the stack inside the process."""
        agents, self._agents = self._agents, None
        if agents is not None:
            await agents.aclose()
        await super().close()

    def run_config(self, ogx_config: Any) -> str:
        """Return the file that a stack inside the process starts from."""
        # Both methods are lightspeed-stack's own, and stay as they are.
        if ogx_config.library_client_config_path is not None and ogx_config.config is None:
            return str(self._enrich_library_config(ogx_config.library_client_config_path))
        return str(self._synthesize_library_config())

    async def _load_from(self, ogx_config: Any, allow_insecure: bool | None) -> None:
        if ogx_config.use_as_library_client:
            path = self.run_config(ogx_config)
            ogx_config = {"use_as_library_client": True, "library_client_config_path": path}
        self._stack = LlamaStackConfiguration.from_object(ogx_config, allow_insecure=allow_insecure)
        self._agents = None
        await super().load(self._stack)

    def _http_client(self) -> httpx.AsyncClient:
        options: dict[str, Any] = {"manager": self.manager, "family": "ogx"}
        if not self.is_library_client:
            return async_http_client(self._stack, follow_redirects=True, **options)
        transport = import_module("pydantic_ai_lightspeed.ogx._transport").OgxLibraryTransport
        inner = transport(self.get_client().carrying({}, {}))
        stack = {"url": IN_PROCESS, "allow_insecure": True}
        return async_http_client(stack, inner=inner, **options)

    # In lightspeed-stack these two are there already.

    def _enrich_library_config(self, path: str) -> str:
        return path

    def _synthesize_library_config(self) -> str:
        raise NotImplementedError
