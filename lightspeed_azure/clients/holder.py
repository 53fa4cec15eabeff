"""AsyncLlamaStackClientHolder: the process's Llama Stack client, whose requests carry a token."""

import asyncio
import logging
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from lightspeed_azure.clients.inference_call import Calls
from lightspeed_azure.clients.stack_catalog import Ask, AzureProvider, StackCatalog
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.enrichment import generate_configuration
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    StackUnavailableError,
)
from lightspeed_azure.manager import AzureEntraIDManager
from lightspeed_azure.process_wide import ProcessWide

_logger = logging.getLogger(__name__)

START_LIMIT = 300.0
"""Seconds that a stack inside the process may take to start (an unrelated provider may hang)."""

LOOKUP_LIMIT = 10.0
"""Seconds that the stack may take to say which providers it has."""


class AsyncLlamaStackClientHolder(metaclass=ProcessWide):
    """Holds a Llama Stack client whose every Azure inference request carries the current token.

    `AsyncLlamaStackClientHolder()` is the process-wide instance; `isolated()` makes one apart. Use
    one instance from one event loop, as its client's connections belong to it.
    """

    def __init__(
        self, *, manager: AzureEntraIDManager | None = None, start_limit: float = START_LIMIT
    ) -> None:
        self._own_manager = manager
        self._start_limit = start_limit
        self._config: LlamaStackConfiguration | None = None
        self._client: Any = None
        self._catalog: StackCatalog | None = None
        self._loading = asyncio.Lock()

    @classmethod
    def isolated(
        cls, *, manager: AzureEntraIDManager | None = None, start_limit: float = START_LIMIT
    ) -> Self:
        """Return an instance of its own.

        Args:
            manager: whose tokens its requests carry; None means the process-wide manager.
            start_limit: seconds that a stack inside the process may take to start.
        """
        instance: Self = cls.build(manager=manager, start_limit=start_limit)
        return instance

    @property
    def manager(self) -> AzureEntraIDManager:
        """The manager whose tokens the requests carry."""
        return self._own_manager or AzureEntraIDManager()

    @property
    def is_library_client(self) -> bool:
        """Whether the stack runs inside this process."""
        return self._config is not None and self._config.use_as_library_client

    @property
    def is_loaded(self) -> bool:
        """Whether there is a client to hand out."""
        return self._client is not None

    async def load(self, llama_stack_config: object) -> None:
        """Make the client; in library mode this starts the stack.

        When it fails, the client before stays held and the next `ensure_loaded()` tries again.
        In service mode nothing is sent: a stack that is down is no error here.

        Args:
            llama_stack_config: a `LlamaStackConfiguration`, a mapping, or any object with its
                attributes (lightspeed-stack's own model among them).

        Raises:
            InvalidConfigurationError: the configuration cannot work.
            StackUnavailableError: the stack inside the process did not start.
        """
        config = LlamaStackConfiguration.from_object(llama_stack_config)
        async with self._loading:
            await self._load(config)

    async def ensure_loaded(self) -> Any:
        """Return the client, and start the stack first if that failed before.

        Raises:
            StackUnavailableError: it did not start this time either.
        """
        if self._client is None and self._config is not None:
            async with self._loading:
                if self._client is None:
                    await self._load(self._config)
        return self.get_client()

    def get_client(self) -> Any:
        """Return the client: `AsyncLlamaStackClient`, or `AsyncLlamaStackAsLibraryClient`.

        Each of its Azure inference requests looks the current token up when it is sent.

        Raises:
            StackUnavailableError: nothing is loaded yet.
        """
        if self._client is None:
            raise StackUnavailableError("No Llama Stack client is loaded yet; await load() first")
        return self._client

    async def update_azure_token(self) -> Any:
        """Return a new client, held from now on, that shows the current token where one looks.

        That is in its default headers (service mode) or its `provider_data` (library mode). It
        shares the connections, or the stack, of the one before, which keeps working. Requests carry
        a current token without this, too.

        Raises:
            InvalidConfigurationError: Entra ID is not configured.
            TokenError: no token can be had.
        """
        client = await self.ensure_loaded()
        identity = self.manager.identity()
        await identity.aget_token()
        base_url = await self.get_azure_base_url() or self.manager.azure_base_url
        data = identity.provider_data(base_url) if base_url else None
        if data is None:
            return client
        self._client = client.carrying({**client.carried, **data})
        return self._client

    async def get_azure_base_url(self) -> str | None:
        """Return the base_url of the first `remote::azure` provider; None when it is not known.

        Asks the stack until it has answered once.
        """
        providers = await self._azure_providers()
        first = providers[0].base_url if providers else None
        if first is not None and self.manager.azure_base_url is None:
            self.manager.set_base_url(first)
        return first

    async def close(self) -> None:
        """Close the connections, or shut the stack inside the process down."""
        client, self._client = self._client, None
        if client is not None:
            await client.shutdown()

    async def _azure_providers(self) -> tuple[AzureProvider, ...]:
        if self._catalog is None:
            return ()
        try:
            async with asyncio.timeout(LOOKUP_LIMIT):
                return await self._catalog.azure_providers()
        except Exception as error:  # noqa: BLE001 - any client's any error means: not known yet
            _logger.warning("The stack did not say its providers: %s", type(error).__name__)
            return ()

    async def _load(self, config: LlamaStackConfiguration) -> None:
        self._config = config
        # Importing a stack's client takes over a second, and blocks whatever thread does it.
        generations = await asyncio.to_thread(import_module, "lightspeed_azure.clients.generations")
        catalog: list[StackCatalog] = []

        def make_calls(ask: Ask) -> Calls:
            catalog.append(StackCatalog(ask))
            return Calls(lambda: self.manager, catalog[0])

        before = self._client
        if config.use_as_library_client:
            self._client = await self._start(
                config, lambda path: generations.start(path, make_calls)
            )
        else:
            self._client = generations.connect(config, make_calls)
        self._catalog = catalog[0]
        if before is not None:
            await before.shutdown()

    async def _start(self, config: LlamaStackConfiguration, start: Callable[[Path], Any]) -> Any:
        if config.library_client_config_path is None:
            raise InvalidConfigurationError(
                "llama_stack.library_client_config_path: missing; name the stack's run.yaml"
            )
        blocks = [identity.config for identity in self.manager.identities]
        with tempfile.TemporaryDirectory(prefix="lightspeed-azure-") as folder:
            enriched = Path(folder) / "run.yaml"
            generate_configuration(
                config.library_client_config_path, enriched, blocks[0] if blocks else None
            )
            try:
                async with asyncio.timeout(self._start_limit):
                    return await start(enriched)
            except LightspeedAzureError:
                raise
            except TimeoutError:
                raise StackUnavailableError(
                    f"Llama Stack did not start within {self._start_limit:.0f} s; one of its "
                    "providers may be waiting for a service that is down"
                ) from None
            except Exception as error:
                raise StackUnavailableError(
                    f"Llama Stack did not start from {config.library_client_config_path} "
                    f"({type(error).__name__}); the stack's own log says more"
                ) from error
