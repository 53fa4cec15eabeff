"""FastAPI: a lifespan that owns the manager and the client, and a dependency that hands it out."""

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection

from lightspeed_azure.clients.holder import AsyncLlamaStackClientHolder
from lightspeed_azure.config import (
    Configuration,
    configuration_from_mapping,
    load_configuration,
)
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    ProviderDataError,
    StackUnavailableError,
    TokenError,
)
from lightspeed_azure.keys import configured
from lightspeed_azure.secrets import redacted
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_logger = logging.getLogger(__name__)

STATE_KEY = "lightspeed_azure"
"""The key of this package's part of the lifespan state."""

RETRY_AFTER = 5
"""Seconds to name in Retry-After where nothing better is known."""

type Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Runtime:
    """What one application holds: its manager and its client holder."""

    manager: AzureEntraIDManager
    holder: AsyncLlamaStackClientHolder

    def readiness(self) -> dict[str, Any]:
        """Return whether a question could be answered now, as far as memory knows, and why.

        `ready` is true when a usable token is at hand or none was needed yet. Never waits, asks
        nobody, and holds no secret: fit for a probe's answer.
        """
        tokens = self.manager.status()
        usable = all(token.zone in {"fresh", "stale"} or not token.last_error for token in tokens)
        found: dict[str, Any] = {
            "ready": usable and self.holder.is_loaded,
            "tokens": [asdict(token) for token in tokens],
        }
        keys = self.holder.provider_credentials.status()
        return found | ({"keys": [asdict(key) for key in keys]} if keys else {})


def lifespan(
    config: Configuration | Mapping[str, Any] | str | Path | None = None,
    *,
    inner: Lifespan | None = None,
    process_wide: bool = False,
    allow_insecure: bool | None = None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan for `FastAPI(lifespan=…)` that owns the client and its tokens.

    Start-up asks Entra ID and Azure for nothing (but in the background, with `prefetch`), and
    succeeds when they or the stack are down; the first query tries again. The instances live in the
    lifespan state, so two applications in one process stay apart.

    Args:
        config: a configuration or its mapping, or the file that holds it. None means the file that
            LIGHTSPEED_STACK_CONFIG_PATH names, or lightspeed-stack.yaml, and the process-wide
            manager, which applications without a configuration of their own share.
        inner: the application's own lifespan, run inside; its state is kept.
        process_wide: also let `AzureEntraIDManager()` and `AsyncLlamaStackClientHolder()` be these
            instances while the application runs.
        allow_insecure: True sends tokens over plain HTTP to a stack on another machine, for networks
            that something else protects; None leaves it to the configuration.

    Raises:
        InvalidConfigurationError: at start-up, when the configuration cannot work.
    """
    config = redacted(config)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        loaded = _configuration(config, allow_insecure)
        if loaded.llama_stack is None:
            raise InvalidConfigurationError(
                "ogx (or llama_stack): missing; add the block with the stack's url, or with "
                "use_as_library_client: true"
            )
        async with AsyncExitStack() as stack:
            if config is None:
                manager = stack.enter_context(_shared_manager(loaded.azure_entra_id))
            else:
                manager = AzureEntraIDManager.isolated(loaded.azure_entra_id)
                stack.callback(manager.close)
            stack.enter_context(configured(loaded.credential_resolvers, loaded.azure_entra_id))
            holder = AsyncLlamaStackClientHolder.isolated(
                manager=manager, provider_credentials=loaded.provider_credentials
            )
            stack.push_async_callback(holder.close)
            if process_wide:
                stack.enter_context(AzureEntraIDManager.replaced(manager))
                stack.enter_context(AsyncLlamaStackClientHolder.replaced(holder))
            try:
                await holder.load(loaded.llama_stack)
            except StackUnavailableError as error:
                _logger.warning("%s; the first query tries again", error)
            state: Mapping[str, Any] | None = None
            if inner is not None:
                state = await stack.enter_async_context(inner(app))
            yield {**(state or {}), STATE_KEY: Runtime(manager, holder)}

    return run


_sharing = 0
"""How many running applications share the process-wide manager as one of them configured it."""


@contextmanager
def _shared_manager(azure_entra_id: object) -> Iterator[AzureEntraIDManager]:
    """Yield the process-wide manager; unless somebody else has, configure it for the first one."""
    global _sharing  # noqa: PLW0603 - the manager is the process's, so is the count of its users
    manager: AzureEntraIDManager = AzureEntraIDManager()
    if not _sharing:
        if manager.is_entra_id_configured:
            yield manager
            return
        manager.set_config(azure_entra_id)
    _sharing += 1
    try:
        yield manager
    finally:
        _sharing -= 1
        if not _sharing:
            manager.set_config(None)


def runtime(request: HTTPConnection) -> Runtime:
    """Return the application's manager and holder.

    Raises:
        RuntimeError: the application was made without `lifespan`.
    """
    found = getattr(request.state, STATE_KEY, None)
    if found is None:
        raise RuntimeError(
            "No lightspeed_azure in the lifespan state; make the application with "
            "FastAPI(lifespan=lightspeed_azure.fastapi.lifespan(…)), and its TestClient in a with block"
        )
    return found  # type: ignore[no-any-return]


async def client(
    runtime: Annotated[Runtime, Depends(runtime)],
) -> AsyncIterator[Any]:
    """Give an endpoint the Llama Stack client, and start a renewal that is due, behind.

    A typed error of this package that leaves the endpoint becomes a 503 problem document with
    Retry-After (400 for the caller's own provider data).
    """
    runtime.manager.renew_if_due()
    try:
        yield await runtime.holder.ensure_loaded()
    except LightspeedAzureError as error:
        raise problem(error) from error
    except ExceptionGroup as group:  # of an endpoint's TaskGroup
        typed: Any = group.subgroup(LightspeedAzureError)
        while isinstance(typed, ExceptionGroup):
            typed = typed.exceptions[0]
        if typed is None:
            raise
        raise problem(typed) from group


ClientDep = Annotated[Any, Depends(client)]
"""An endpoint's parameter: `client: ClientDep`."""

RuntimeDep = Annotated[Runtime, Depends(runtime)]
"""An endpoint's parameter that gives the manager and the holder, for a readiness probe."""


def problem(error: LightspeedAzureError) -> HTTPException:
    """Return the HTTP error for a typed error: application/problem+json (RFC 9457), no secrets."""
    headers = {"Content-Type": "application/problem+json"}
    if isinstance(error, ProviderDataError):
        return HTTPException(400, str(error), headers)
    retry_after = RETRY_AFTER
    if isinstance(error, TokenError | StackUnavailableError) and error.retry_after is not None:
        retry_after = max(1, math.ceil(error.retry_after))
    return HTTPException(503, str(error), headers | {"Retry-After": str(retry_after)})


def _configuration(
    config: Configuration | Mapping[str, Any] | str | Path | None, allow_insecure: bool | None
) -> Configuration:
    if isinstance(config, Configuration):
        return config
    if isinstance(config, Mapping):
        return configuration_from_mapping(config, allow_insecure=allow_insecure)
    return load_configuration(config, allow_insecure=allow_insecure)
