"""Replaces what src/client/ogx.py of lightspeed-stack has of `AsyncOgxClientHolder`."""

from typing import Any

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager


def read_provider_data(client: Any) -> dict[str, Any]:
    """Return a client's provider data, with the token of now: the answer is used at once."""
    return {**client.carried, **(AzureEntraIDManager().build_azure_provider_data() or {})}


class AsyncOgxClientHolder(AsyncLlamaStackClientHolder):
    """The client of the process; whichever client an endpoint holds, its requests carry the token."""

    async def load(self, ogx_config: Any) -> None:
        """Make the client, once."""
        if not self.is_loaded:
            self._ogx_config = ogx_config
            await self._load_from(ogx_config)

    async def reload_library_client(self) -> Any:
        """Start the stack inside the process anew; requests under way end on the one before."""
        await self._load_from(self._ogx_config)
        return self.get_client()

    def run_config(self, ogx_config: Any) -> str:
        """Return the file that a stack inside the process starts from."""
        # Here _enrich_library_config() or _synthesize_library_config() of lightspeed-stack.
        return str(ogx_config.library_client_config_path)

    async def _load_from(self, ogx_config: Any) -> None:
        if ogx_config.use_as_library_client:
            path = self.run_config(ogx_config)
            ogx_config = {"use_as_library_client": True, "library_client_config_path": path}
        await super().load(ogx_config)
