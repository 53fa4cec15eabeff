"""AsyncLlamaStackClientHolder: the process's Llama Stack client, whose requests carry a token."""

import asyncio
import contextlib
import functools
import logging
from importlib import import_module
from typing import Any, Self

from lightspeed_azure.clients.inference_call import STREAM_MIN_REMAINING, Calls
from lightspeed_azure.clients.learned import learned
from lightspeed_azure.clients.stack_catalog import Ask, StackCatalog
from lightspeed_azure.clients.starting import START_LIMIT, start_enriched
from lightspeed_azure.concurrency.fork import importing, reset_in_child
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import LightspeedAzureError, StackUnavailableError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.process_wide import ProcessWide
from lightspeed_azure.secrets import redacted
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_logger = logging.getLogger(__name__)


class AsyncLlamaStackClientHolder(metaclass=ProcessWide):
    """Holds a Llama Stack client whose every Azure inference request carries the current token.

    `AsyncLlamaStackClientHolder()` is the process-wide instance; `isolated()` makes one apart. Use
    one instance from one event loop, as its client's connections belong to it.
    """

    def __init__(
        self,
        *,
        manager: AzureEntraIDManager | None = None,
        start_limit: float = START_LIMIT,
        stream_min_remaining: float = STREAM_MIN_REMAINING,
        provider_credentials: Any = None,
    ) -> None:
        self._own_manager = manager
        self.set_provider_credentials(provider_credentials)
        self._start_limit = start_limit
        self._stream_min_remaining = stream_min_remaining
        self._wanted: LlamaStackConfiguration | None = None
        self._config: LlamaStackConfiguration | None = None
        self._client: Any = None
        self._catalog: StackCatalog | None = None
        self._loading = asyncio.Lock()
        self._failure: LightspeedAzureError | None = None
        self._retired: dict[asyncio.Task[None], Any] = {}
        self._parents: list[Any] = []  # not closed: the parent process uses their connections
        reset_in_child(self)

    @classmethod
    def isolated(cls, **options: Any) -> Self:
        """Return an instance of its own.

        Args:
            options: `manager`, whose tokens its requests carry (the process-wide one by default);
                `start_limit`, seconds that a stack inside the process may take to start;
                `stream_min_remaining`, seconds of life that a token should have left when a stream
                starts, at most 0.4 of its lifetime; `provider_credentials`, the keys of other
                providers, as `set_provider_credentials` takes them.
        """
        instance: Self = cls.build(**options)
        return instance

    @property
    def manager(self) -> AzureEntraIDManager:
        """The manager whose tokens the requests carry."""
        return self._own_manager or AzureEntraIDManager()

    @property
    def provider_credentials(self) -> ProviderCredentials:
        """The keys of other providers that the requests carry, and how they are."""
        return self._credentials

    def set_provider_credentials(self, config: Any) -> None:
        """From now on let requests carry these keys of other providers.

        Args:
            config: `Configuration.provider_credentials`, or entries as one writes them there.

        Raises:
            InvalidConfigurationError: they cannot work; the ones before stay.
        """
        config, before = redacted(config), getattr(self, "_credentials", None)
        self._credentials = ProviderCredentials.of(config, lambda: self.manager)
        if before is not None:
            before.close()

    @property
    def is_library_client(self) -> bool:
        """Whether the stack runs inside this process."""
        return self._config is not None and self._config.use_as_library_client

    @property
    def is_loaded(self) -> bool:
        """Whether there is a client to hand out."""
        return self._client is not None

    async def load(self, llama_stack_config: object, *, allow_insecure: bool | None = None) -> None:
        """Make the client; in library mode this starts the stack.

        When it fails, the client before stays held; without one, the next `ensure_loaded()` tries
        again. A client that is replaced goes on serving the requests that it has, for as long as
        one may take. In service mode nothing is sent: a stack that is down is no error here.

        Args:
            llama_stack_config: a `LlamaStackConfiguration`, a mapping, or any object with its
                attributes (lightspeed-stack's own model among them).
            allow_insecure: True sends tokens over plain HTTP to a stack on another machine, for
                networks that something else protects; None leaves it to the configuration.

        Raises:
            InvalidConfigurationError: the configuration cannot work.
            StackUnavailableError: the stack inside the process did not start.
        """
        config = LlamaStackConfiguration.from_object(
            llama_stack_config, allow_insecure=allow_insecure
        )
        async with self._loading:
            await self._load(config)

    async def ensure_loaded(self) -> Any:
        """Return the client, and start the stack first if that failed before.

        Raises:
            StackUnavailableError: it did not start this time either.
        """
        if self._client is None and self._wanted is not None:
            await self._load_again(self._failure)
        return self.get_client()

    def get_client(self) -> Any:
        """Return the client of the stack in use, as its family and `is_library_client` say.

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
        await self.ensure_loaded()
        identity = self.manager.identity()
        await identity.aget_token()
        base_url = await self.get_azure_base_url() or self.manager.azure_base_url
        data = identity.provider_data(base_url) if base_url else None
        client = self.get_client()  # a reload or a close may have come in between
        if data is None:
            return client
        self._client = client.carrying({**client.carried, **data}, shown=data)
        return self._client

    async def get_azure_base_url(self) -> str | None:
        """Return the base_url of the first `remote::azure` provider; None when it is not known.

        Asks the stack until it has answered once.
        """
        try:
            providers = await self._catalog.azure_providers() if self._catalog else ()
        except Exception as error:  # noqa: BLE001 - any client's any error means: not known yet
            _logger.warning("The stack did not say its providers: %s", type(error).__name__)
            return None
        return providers[0].base_url if providers else None

    async def close(self) -> None:
        """Close the connections, or shut the stack inside the process down."""
        clients = [*self._retired.values(), *([] if self._client is None else [self._client])]
        for task in self._retired:
            task.cancel()
        self._retired.clear()
        if self._catalog is not None:
            self._catalog.close()
        self._client = self._wanted = None
        self._credentials.close()
        async with contextlib.AsyncExitStack() as stack:  # all of them, whatever one raises
            for client in clients:
                stack.push_async_callback(client.shutdown)

    def after_fork(self) -> None:
        """Drop the client in a forked child: its connections and event loop are the parent's."""
        self._parents += [
            *self._retired.values(),
            *([] if self._client is None else [self._client]),
        ]
        self._retired = {}
        self._client = self._catalog = self._failure = None
        self._loading = asyncio.Lock()

    async def _load(self, config: LlamaStackConfiguration) -> None:
        self._wanted = config
        # Importing a stack's client takes over a second, and blocks whatever thread does it.
        generations = await asyncio.to_thread(_generations)
        catalog: list[StackCatalog] = []

        def make_calls(ask: Ask) -> Calls:
            catalog.append(StackCatalog(ask, learned=functools.partial(learned, self, generation)))
            return Calls(
                lambda: self.manager,
                catalog[0],
                stream_min_remaining=self._stream_min_remaining,
                key_per_provider=generation.key_per_provider,
                provider_credentials=lambda: self._credentials,
            )

        try:
            generation = await generations.in_use(config)
            await asyncio.to_thread(generations.prepare, generation)
            if config.use_as_library_client:
                client = await start_enriched(
                    config,
                    [identity.config for identity in self.manager.identities] or None,
                    lambda path: generations.start(generation, path, make_calls),
                    limit=self._start_limit,
                    by_hand=generation.run,
                )
            else:
                client = generations.connect(generation, config, make_calls)
        except LightspeedAzureError as error:
            self._failure = error.with_traceback(None)
            raise
        if self._wanted is not config:
            await client.shutdown()
            raise StackUnavailableError("The holder was closed while its client was made")
        self._retire()
        self._client, self._catalog, self._config = client, catalog[0], config

    async def _load_again(self, seen: LightspeedAzureError | None) -> None:
        """Load what is wanted; a failure that comes while this caller waits is its own, too."""
        async with self._loading:
            if self._client is None and self._failure is not None and self._failure is not seen:
                raise self._failure.with_traceback(None)
            if self._client is None and self._wanted is not None:
                await self._load(self._wanted)

    def _retire(self) -> None:
        """Shut the client before down once the requests that it has must have ended."""
        if self._client is None or self._config is None:
            return

        async def later(client: Any, seconds: float) -> None:
            await asyncio.sleep(seconds)
            await client.shutdown()

        task = asyncio.create_task(later(self._client, self._config.timeout))
        self._retired[task] = self._client
        task.add_done_callback(lambda task: self._retired.pop(task, None))


def _generations() -> Any:
    with importing("lightspeed_azure.clients.generations"):
        return import_module("lightspeed_azure.clients.generations")


AsyncOgxClientHolder = AsyncLlamaStackClientHolder
"""The same by the name that the stack goes on under."""
