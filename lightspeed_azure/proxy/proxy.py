"""The proxy as a whole: its parts, its start and its end."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

from lightspeed_azure import keys as keys_room
from lightspeed_azure.config import Configuration, LlamaStackConfiguration, ProxyConfiguration
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.metrics import Metrics
from lightspeed_azure.proxy.certificate import ServerCertificate
from lightspeed_azure.proxy.forwarding import Forwarding
from lightspeed_azure.proxy.inbound import check_exposure, make_inbound
from lightspeed_azure.proxy.routes import Routes
from lightspeed_azure.proxy.server import Listener
from lightspeed_azure.proxy.service import Service
from lightspeed_azure.proxy.status import Probes, Status
from lightspeed_azure.proxy.tracing import make_tracing
from lightspeed_azure.proxy.upstream import Upstream
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_logger = logging.getLogger(__name__)


class Proxy:
    """A reverse proxy in front of a stack. Use it from one event loop, once.

    Args:
        stack: where the stack is.
        config: how to serve.
        manager: whose tokens inference requests carry.
        credentials: the keys of other providers.

    Attributes:
        config: how it serves.
        url: where callers reach it, once it has started.
        admin_url: where operators reach it.

    Raises:
        InvalidConfigurationError: the configuration cannot work.
    """

    def __init__(
        self,
        stack: LlamaStackConfiguration,
        config: ProxyConfiguration,
        manager: AzureEntraIDManager,
        credentials: ProviderCredentials | None = None,
    ) -> None:
        if not stack.url:
            raise InvalidConfigurationError(
                "url: is missing; the proxy stands in front of a server: "
                "write https://host:port into the ogx or llama_stack block"
            )
        self.config = config
        self._manager = manager
        self._credentials = credentials or ProviderCredentials()
        self._certificate = (
            ServerCertificate(config.tls_certificate, config.tls_key)
            if config.tls_certificate and config.tls_key
            else None
        )
        check_exposure(config.inbound, config.host)
        self._inbound = make_inbound(config.inbound)
        self._tracing = make_tracing(enabled=config.tracing)
        routes = Routes(config.routes)
        self._metrics = Metrics(routes=routes.names)
        self._metrics.watch(manager)
        self._metrics.watch_credentials(self._credentials.status)
        self._metrics.watch_resolvers(keys_room.status)
        self._metrics.watch_inbound(self._inbound.status)
        self._upstream = Upstream(
            stack,
            connect_timeout=config.connect_timeout,
            first_byte_timeout=config.first_byte_timeout,
        )
        self.probes = Probes(manager, self._credentials.status)
        self._forwarding = Forwarding(
            self._upstream, manager, self._credentials, config, tracing=self._tracing
        )
        self._status = Status(
            manager,
            inbound=self._inbound.status,
            stack=self._upstream.state,
            stack_url=self._upstream.url,
            draining=lambda: self.probes.draining,
            credentials=self._credentials.status,
            dependents=config.dependents,
        )
        service = Service(
            forwarding=self._forwarding,
            upstream=self._upstream,
            inbound=self._inbound,
            probes=self.probes,
            status=self._status,
            metrics=self._metrics,
            routes=routes,
            tracing=self._tracing,
            config=config,
        )
        self._callers = self._listener(service.handle, "port")
        self._operators = self._listener(service.administer, "admin_port")
        self._behind: set[asyncio.Task[None]] = set()

    def _listener(self, handle: Callable[..., object], name: str) -> Listener:
        return Listener(
            handle,  # type: ignore[arg-type]
            name=name,
            header_limit=self.config.header_limit,
            connection_limit=self.config.connection_limit,
            keep_alive=self.config.keep_alive,
            idle=self.config.idle_timeout,
            tls=self._certificate.context if self._certificate and name == "port" else None,
        )

    @property
    def url(self) -> str:
        """Where callers reach it."""
        return self._callers.url

    @property
    def admin_url(self) -> str:
        """Where operators reach it."""
        return self._operators.url

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._callers.in_flight

    async def start(self) -> Self:
        """Listen, and start to fetch tokens behind.

        Raises:
            InvalidConfigurationError: an address is taken.
        """
        try:
            await self._inbound.start()
            await self._operators.start(self.config.admin_host, self.config.admin_port)
            await self._callers.start(self.config.host, self.config.port)
        except BaseException:
            await self.close()
            raise
        self._manager.renew_if_due()
        self._behind.add(asyncio.create_task(self._credentials.look()))
        self._behind.add(asyncio.create_task(self._status.follow()))
        if self._certificate:
            self._behind.add(asyncio.create_task(self._certificate.follow()))
        return self

    async def drain(self) -> None:
        """Let requests end: readiness says no, then nothing new is taken; all within the limit."""
        self.probes.draining = True
        await asyncio.sleep(self.config.drain_delay)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_limit):
                await self._callers.drain()

    async def close(self) -> None:
        """End everything now."""
        for task in self._behind:
            task.cancel()
        await self._callers.close()
        await self._operators.close()
        await self._inbound.close()
        self._forwarding.close()
        await self._upstream.close()
        await asyncio.to_thread(self._tracing.close)


@asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[Proxy]:
    """Run a proxy while the block lasts."""
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def serve(
    configuration: Configuration, config: ProxyConfiguration, told: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    Args:
        configuration: the identities, and where the stack is.
        config: how to serve.
        told: called with each line for the operator.

    Raises:
        InvalidConfigurationError: the configuration cannot work.
    """
    if configuration.llama_stack is None:
        raise InvalidConfigurationError(
            "ogx (or llama_stack): is missing; the proxy stands in front of a server: "
            "add the block with url: https://host:port"
        )
    identities = configuration.azure_entra_id
    manager = AzureEntraIDManager.isolated(list(identities) or None)
    keys = ProviderCredentials(configuration.provider_credentials, manager=lambda: manager)
    signals = _Signals()
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        stack.callback(keys.close)
        stack.enter_context(keys_room.configured(configuration.credential_resolvers, identities))
        proxy = Proxy(configuration.llama_stack, config, manager, keys)
        await stack.enter_async_context(running(proxy))
        _quieten_collector()
        told(f"Listening on {proxy.url} for {configuration.llama_stack.url}")
        told(f"Metrics and status on {proxy.admin_url}")
        if not identities and not configuration.provider_credentials:
            told("No request gets a token or key: add azure_entra_id or provider_credentials")
        await signals.first.wait()
        told(f"Ending: {proxy.in_flight} requests may finish; once more ends them")
        draining = asyncio.create_task(proxy.drain())
        again = asyncio.create_task(signals.second.wait())
        await asyncio.wait((draining, again), return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        again.cancel()
        if proxy.in_flight:
            told(f"Ended: {proxy.in_flight} requests were cut off")


def _quieten_collector() -> None:
    """Exclude imported objects from garbage collection, and collect less often.

    Requests leave almost no reference cycles; looking for them slows each request down.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class _Signals:
    """The signals that ask to end."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._came)

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a new event loop: uvloop's if it is installed.

    Raises:
        Exception: what the coroutine raises.
    """
    with asyncio.Runner(loop_factory=_factory()) as runner:
        runner.run(work)


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not available on Windows and PyPy
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
