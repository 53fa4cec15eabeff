"""LlamaStackClientHolder: the process's synchronous client of the stack, for scripts and threads."""

from importlib import import_module
from typing import Any, Self

from lightspeed_azure.clients.holder import AsyncLlamaStackClientHolder
from lightspeed_azure.clients.inference_call import STREAM_MIN_REMAINING
from lightspeed_azure.clients.starting import START_LIMIT
from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.concurrency.loop_thread import OnPortal
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import StackUnavailableError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.process_wide import ProcessWide
from lightspeed_azure.secrets import redacted
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.sync_source import Held, Source

_SYNCHRONOUS = {
    "lightspeed_azure.clients.stainless_clients": "lightspeed_azure.transports.stainless_sync",
    "lightspeed_azure.clients.ogx_clients": "lightspeed_azure.transports.ogx_sync",
}
"""The file of an asynchronous client → that of its synchronous kind."""


class _Keys:
    """The keys of other providers of a holder.

    What lives on the portal's loop asks here, as it must not keep the holder alive: a holder that
    nobody has any more closes its connections.
    """

    def __init__(self, config: Any, manager: AzureEntraIDManager | None) -> None:
        self._whose = lambda: manager or AzureEntraIDManager()
        self.take(config)

    def take(self, config: Any) -> None:
        self.now = ProviderCredentials.of(config, self._whose)

    def get(self) -> ProviderCredentials:
        return self.now


class LlamaStackClientHolder(metaclass=ProcessWide):
    """Holds a synchronous Llama Stack client whose every Azure inference request carries the token.

    `LlamaStackClientHolder()` is the process-wide instance; `isolated()` makes one apart. Safe to
    use from any thread; its client too, and after a fork. In library mode the stack runs on a
    thread of its own, and a forked child starts another at its first request. As a context manager
    it closes at the end.
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
        self._keys = _Keys(provider_credentials, manager)
        self._options = {"manager": manager, "stream_min_remaining": stream_min_remaining}
        self._changing = ForkLock()
        self._config: LlamaStackConfiguration | None = None
        self._wanted: LlamaStackConfiguration | None = None
        self._client: Any = None
        keys, options = self._keys, self._options
        self._held = OnPortal(
            lambda: Held(
                AsyncLlamaStackClientHolder.isolated(
                    start_limit=start_limit, provider_credentials=keys.now, **options
                )
            ),
            lambda held: held.close(),
        )

    @classmethod
    def isolated(cls, **options: Any) -> Self:
        """Return an instance of its own; takes what `AsyncLlamaStackClientHolder.isolated` takes."""
        instance: Self = cls.build(**options)
        return instance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def manager(self) -> AzureEntraIDManager:
        """The manager whose tokens the requests carry."""
        return self._own_manager or AzureEntraIDManager()

    @property
    def provider_credentials(self) -> ProviderCredentials:
        """The keys of other providers that the requests carry, and how they are."""
        return self._keys.now

    def set_provider_credentials(self, config: Any) -> None:
        """From now on let requests carry these keys of other providers.

        Args:
            config: `Configuration.provider_credentials`, or entries as one writes them there.

        Raises:
            InvalidConfigurationError: they cannot work; the ones before stay.
        """

        async def set_there(held: Held) -> None:
            held.holder.set_provider_credentials(self._keys.now)

        config = redacted(config)
        with self._changing:
            self._keys.take(config)
            self._held.run(set_there)

    @property
    def is_library_client(self) -> bool:
        """Whether the stack runs inside this process."""
        return self._config is not None and self._config.use_as_library_client

    @property
    def is_loaded(self) -> bool:
        """Whether there is a client to hand out."""
        return self._client is not None

    def load(self, llama_stack_config: object, *, allow_insecure: bool | None = None) -> None:
        """Make the client; in library mode this starts the stack, and waits for it.

        When it fails, the client before stays held; without one, the next `ensure_loaded()` tries
        again. In service mode nothing is sent: a stack that is down is no error here.

        Args:
            llama_stack_config: a `LlamaStackConfiguration`, a mapping, or any object with its
                attributes.
            allow_insecure: True sends tokens over plain HTTP to a stack on another machine, for
                networks that something else protects; None leaves it to the configuration.

        Raises:
            InvalidConfigurationError: the configuration cannot work.
            StackUnavailableError: the stack inside the process did not start.
        """
        config = LlamaStackConfiguration.from_object(
            llama_stack_config, allow_insecure=allow_insecure
        )

        async def load(held: Held) -> tuple[Held, Any]:
            await held.holder.load(config)
            return held, held.holder.get_client()

        with self._changing:
            self._wanted = config
            self._take(config, *self._held.run(load))

    def ensure_loaded(self) -> Any:
        """Return the client, and start the stack first if that failed before.

        Raises:
            StackUnavailableError: it did not start this time either.
        """

        async def load_again(held: Held) -> tuple[Held, Any]:
            return held, await held.holder.ensure_loaded()

        with self._changing:
            if self._client is None and self._wanted is not None:
                self._take(self._wanted, *self._held.run(load_again))
        return self.get_client()

    def get_client(self) -> Any:
        """Return the synchronous client of the stack in use.

        Each of its Azure inference requests looks the current token up when it is sent.

        Raises:
            StackUnavailableError: nothing is loaded yet.
        """
        client = self._client
        if client is None:
            raise StackUnavailableError("No Llama Stack client is loaded yet; load() one first")
        return client

    def update_azure_token(self) -> Any:
        """Return a new client, held from now on, that shows the current token where one looks.

        Raises:
            InvalidConfigurationError: Entra ID is not configured.
            TokenError: no token can be had.
        """
        self.ensure_loaded()

        async def update(held: Held) -> tuple[Held, Any]:
            if self._config is not None:
                await held.loaded(self._config)
            return held, await held.holder.update_azure_token()

        with self._changing:
            held, client = self._held.run(update)
            self._client = self.get_client().shown_as(held, client)
            return self._client

    def get_azure_base_url(self) -> str | None:
        """Return the base_url of the first `remote::azure` provider; None when it is not known."""

        async def base_url(held: Held) -> str | None:
            if self._config is not None:
                await held.loaded(self._config)
            return await held.holder.get_azure_base_url()

        return self._held.run(base_url)

    def close(self) -> None:
        """Close the connections, or shut the stack inside the process down."""
        with self._changing:
            client, self._client, self._wanted, self._config = self._client, None, None, None
            if client is not None:
                client.close_transport()
            self._held.run(lambda held: held.close())

    def _take(self, config: LlamaStackConfiguration, held: Held, client: Any) -> None:
        kind = import_module(_SYNCHRONOUS[client.generation.clients])
        source = Source(self._held, config, held, client)
        self._client = kind.synchronous(
            source,
            manager=self._own_manager,
            stream_min_remaining=self._options["stream_min_remaining"],
            provider_credentials=self._keys.get,
        )
        self._config = config


OgxClientHolder = LlamaStackClientHolder
"""The same by the name that the stack goes on under."""
