"""Which resolvers exist: installed as plug-ins, configured, or registered at run time."""

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from pydantic import SecretStr

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import ForkLock, importing, reset_in_child
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.credential_resolver import (
    BUILT_IN,
    GROUP,
    CredentialResolverConfiguration,
    ResolverSettings,
)
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.key_vault import KeyVaultResolver
from lightspeed_azure.keys.resolver import CREDENTIAL_FUNCTIONS, Resolver, ResolverStatus
from lightspeed_azure.keys.vault import VaultResolver

_logger = logging.getLogger("lightspeed_azure.keys")


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """The arguments of one call of `configured`."""

    blocks: tuple[CredentialResolverConfiguration, ...] = ()
    identities: tuple[AzureEntraIdConfiguration, ...] = ()


class ResolverRegistry:
    """The resolvers of a process. Safe for any number of threads.

    Resolvers are called in ascending `order`, equal ones in this order: plug-ins by name, then
    configured ones as written, then those registered at run time.

    Args:
        entry_points: returns the plug-ins; called once, when a resolver is first needed.
        clock: tells the time.
        scheduler: makes the calls at deadlines.
    """

    def __init__(
        self,
        *,
        entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        scheduler: Scheduler = TIMER_THREAD,
    ) -> None:
        self._entry_points = entry_points or installed
        self._resolver = functools.partial(Resolver, clock=clock, scheduler=scheduler)
        self._lock = ForkLock()  # guards the rest
        self._found: dict[str, importlib.metadata.EntryPoint] | None = None
        self._plug_ins: list[Resolver] = []
        self._configured: list[Resolver] = []
        self._runtime: list[Resolver] = []
        self._layers: list[_Layer] = [_Layer()]
        self._numbers = itertools.count(2)
        reset_in_child(self)

    # -- finding -----------------------------------------------------------------------------

    def discovered(self) -> Self:
        """Find the plug-ins, once; reads from the disk."""
        if self._found is None:
            with self._lock:
                if self._found is None:
                    found = _by_name(self._entry_points)
                    self._plug_ins = self._of_plug_ins(found)
                    self._found = found
        return self

    async def adiscovered(self) -> Self:
        """Do what `discovered` does without blocking the event loop."""
        if self._found is None:
            await asyncio.to_thread(self.discovered)
        return self

    def resolvers_of(self, function: str) -> tuple[Resolver, ...]:
        """Return the resolvers for a function, in their order."""
        return tuple(each for each in self._sorted() if function in each.functions)

    def status(self) -> tuple[ResolverStatus, ...]:
        """Return a snapshot of every resolver; it contains no key."""
        return tuple(each.status() for each in self._sorted())

    def invalidate(self, key: SecretStr) -> None:
        """Ask again before this key, which a provider refused, is used."""
        for each in self._all():
            each.invalidate(key)

    # -- registering -------------------------------------------------------------------------

    @contextmanager
    def registered(
        self, resolver: object, *, name: str = "", on: Sequence[Any] = (), **settings: Any
    ) -> Iterator[Resolver]:
        """Register a resolver until the block ends; blocks may overlap in any way.

        Args:
            resolver: an object with `before` or `after` or both, or a function of a `HookCall`.
            name: what to call it; by default its attribute `name`, or the name of its class.
            on: the extensible functions, or their names; by default those that look up keys.
            **settings: `order`, `timeout`, `on_error`, `ttl`, `stale_if_error`, `failures`, `rest`;
                by default the resolver's attributes of these names.

        Raises:
            InvalidConfigurationError: a setting is not valid, or the name is taken.
        """
        with self._lock:
            functions = frozenset(map(name_of, on)) if on else CREDENTIAL_FUNCTIONS
            called = self._free_name(name) if name else self._name_for(resolver)
            made = self._resolver(
                called, lambda: resolver, _settings(called, resolver, settings), functions=functions
            )
            made.runner.adopt(resolver)
            self._runtime.append(made)
            registries.changed()
        try:
            yield made
        finally:
            with self._lock:
                self._runtime.remove(made)
                registries.changed()
            made.close()

    @contextmanager
    def configured(
        self,
        blocks: Iterable[CredentialResolverConfiguration],
        identities: Sequence[AzureEntraIdConfiguration] = (),
    ) -> Iterator[None]:
        """Register what is configured until the block ends, instead of what was configured before.

        Blocks may overlap in any way; the one that began last counts.

        Args:
            blocks: `Configuration.credential_resolvers`.
            identities: `Configuration.azure_entra_id`, for resolvers that sign in to Azure; by
                default those of the process-wide manager.

        Raises:
            InvalidConfigurationError: a resolver does not exist; nothing has changed.
        """
        layer = _Layer(tuple(blocks), tuple(identities))
        with self._lock:
            self._install([*self._layers, layer])
        try:
            yield
        finally:
            with self._lock:
                self._install([each for each in self._layers if each is not layer])

    def _install(self, layers: list[_Layer]) -> None:
        """Register what the last layer configures, unless it is registered already."""
        self.discovered()
        found = self._found or {}
        if layers[-1] is not self._layers[-1]:
            blocks, identities = layers[-1].blocks, layers[-1].identities
            made = [
                self._resolver(
                    block.name, _loader(block, found, identities), block, source="configuration"
                )
                for block in blocks
                if block.enabled
            ]
            gone = [*self._plug_ins, *self._configured]
            self._configured = made
            self._plug_ins = self._of_plug_ins(found, blocks)
            for each in gone:
                each.close()
        self._layers = layers
        registries.changed()

    def after_fork(self) -> None:
        """Drop the parent's threads, flights and resolvers in a forked child."""
        for each in self._all():
            each.after_fork()

    def _of_plug_ins(
        self,
        found: Mapping[str, importlib.metadata.EntryPoint],
        blocks: Sequence[CredentialResolverConfiguration] = (),
    ) -> list[Resolver]:
        """Return the plug-ins that no block configures, sorted by name."""
        named = {name for block in blocks for name in (block.kind, block.name)}
        return [
            self._resolver(
                name,
                functools.partial(_made, point.load, {}),
                ResolverSettings(),
                source="entry point",
            )
            for name, point in sorted(found.items())
            if name not in named
        ]

    def _free_name(self, name: str) -> str:
        if name in self._names():
            text = f"credential resolver {name!r} is registered already; give it another name"
            raise InvalidConfigurationError(text)
        return name

    def _name_for(self, resolver: object) -> str:
        plain = inspect.isroutine(resolver) or inspect.isclass(resolver)
        of = resolver if plain else type(resolver)
        name = str(getattr(resolver, "name", "") or getattr(of, "__name__", "resolver"))
        return name if name not in self._names() else f"{name}-{next(self._numbers)}"

    def _names(self) -> set[str]:
        return {each.name for each in self._all()}

    def _sorted(self) -> list[Resolver]:
        return sorted(self._all(), key=lambda each: each.settings.order)

    def _all(self) -> list[Resolver]:
        with self._lock:
            return [*self._plug_ins, *self._configured, *self._runtime]


# -- the registry of the process -----------------------------------------------------------------


class _Registries:
    """The registry of the process, those that replace it, and a mark of the last change."""

    def __init__(self) -> None:
        self.stack = [ResolverRegistry()]
        self.mark = object()

    def changed(self) -> None:
        """Let each hook look up its resolvers again."""
        self.mark = object()


class KnownResolvers:
    """The resolvers of one function, remembered until a resolver comes or goes.

    Args:
        function: the function's name for resolvers.

    Attributes:
        none_at: `registries.mark` at a look-up that found no resolver; while they are the same,
            the function has none.
    """

    def __init__(self, function: str) -> None:
        self.none_at: object = None
        self._function = function
        self._known: tuple[object, tuple[Resolver, ...]] = (None, ())

    def get(self) -> tuple[Resolver, ...]:
        """Return the resolvers in their order."""
        known = self._known
        if known[0] is not registries.mark:
            # The mark is read first: a change in between makes the next call look again.
            known = (registries.mark, registry().resolvers_of(self._function))
            self._known = known
            self.none_at = None if known[1] else known[0]
        return known[1]


def registry() -> ResolverRegistry:
    """Return the registry of the process, or the one that replaces it."""
    return registries.stack[-1]


@contextmanager
def registry_replaced(by: ResolverRegistry) -> Iterator[ResolverRegistry]:
    """Let this be the registry of the process until the block ends, as tests do."""
    registries.stack.append(by)
    registries.changed()
    try:
        yield by
    finally:
        registries.stack.remove(by)
        registries.changed()


def name_of(function: Any, name: str = "") -> str:
    """Return a function's name for resolvers; that of its hook, if it is extensible.

    Raises:
        TypeError: it is neither a function nor a name.
    """
    if name or isinstance(function, str):
        return name or function
    hook = getattr(function, "extensible", None)
    if hook is not None:
        return str(hook.name)
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        raise TypeError("a function is needed, or its name") from None


def _settings(name: str, resolver: object, given: Mapping[str, Any]) -> ResolverSettings:
    """Return the given settings, with the resolver's own attributes as defaults."""
    own = {
        key: value
        for key in ResolverSettings.model_fields
        if isinstance(value := getattr(resolver, key, None), int | float | str)
    }
    try:
        return ResolverSettings(**{**own, **given})
    except InvalidConfigurationError as error:
        problems = [f"credential resolver {name!r}: {problem}" for problem in error.problems]
    raise InvalidConfigurationError(*problems)


# -- loading -------------------------------------------------------------------------------------


def installed() -> Iterable[importlib.metadata.EntryPoint]:
    """Return the resolvers of installed packages; reads their metadata and imports none."""
    return importlib.metadata.entry_points(group=GROUP)


def _by_name(
    entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]],
) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the plug-ins by name; none, and a warning, when they cannot be listed."""
    try:
        return {each.name: each for each in entry_points()}
    except Exception as error:  # noqa: BLE001 - a broken package must break no look-up
        _logger.warning("Installed credential resolvers cannot be listed: %s", type(error).__name__)
        return {}


def _loader(
    block: CredentialResolverConfiguration,
    found: Mapping[str, importlib.metadata.EntryPoint],
    identities: Sequence[AzureEntraIdConfiguration],
) -> Callable[[], object]:
    """Return a function that makes the resolver of a block; imports nothing yet.

    Raises:
        InvalidConfigurationError: the resolver does not exist.
    """
    kind = block.kind
    if kind == KeyVaultResolver.name:
        return functools.partial(KeyVaultResolver, block.options, identities)
    if kind == VaultResolver.name:
        return functools.partial(VaultResolver, block.options)
    if ":" in kind:
        return functools.partial(_made, functools.partial(_imported, kind), block.options)
    if kind in found:
        return functools.partial(_made, found[kind].load, block.options)
    known = ", ".join(sorted({*BUILT_IN, *found}))
    raise InvalidConfigurationError(
        f"credential_resolvers: there is no such resolver; the resolvers are {known}, "
        'or write use: "package.module:Class"'
    )


def _imported(path: str) -> Any:
    module, _, names = path.partition(":")
    with importing(module):
        imported = importlib.import_module(module)
    return functools.reduce(getattr, names.split("."), imported)


def _made(load: Callable[[], Any], options: Mapping[str, Any]) -> object:
    """Return an instance of a class, made with the options; any other object as it is."""
    thing = load()
    if inspect.isclass(thing):
        return thing(**options)
    if options:
        raise InvalidConfigurationError("options are for a class; this resolver is made already")
    return thing


registries = _Registries()
