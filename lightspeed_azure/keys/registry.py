"""The registry of the process, and how another one stands in for it."""

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock, importing, reset_in_child
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.credential_resolver import (
    BUILT_IN,
    GROUP,
    CredentialResolverConfiguration,
)
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.resolver import (
    CREDENTIAL_FUNCTIONS,
    Registration,
    ResolverStatus,
    Settings,
)
from lightspeed_azure.keys.runner import Collaborators

_LOG = logging.getLogger("lightspeed_azure.keys")

_OURS = {
    "keyvault": "lightspeed_azure.keys.key_vault:KeyVaultResolver",
    "vault": "lightspeed_azure.keys.vault:VaultResolver",
}


class EntryPoint(Protocol):
    """What is needed of `importlib.metadata.EntryPoint`."""

    @property
    def name(self) -> str:
        """What the resolver is called."""
        ...

    def load(self) -> Any:
        """Import it."""
        ...


def installed() -> Iterable[EntryPoint]:
    """Return the resolvers that installed packages name; reads their metadata, imports none."""
    return importlib.metadata.entry_points(group=GROUP)


def by_name(entry_points: Callable[[], Iterable[EntryPoint]]) -> dict[str, EntryPoint]:
    """Return the plug-ins by name; none, and a warning, where they cannot be listed."""
    try:
        return {each.name: each for each in entry_points()}
    except Exception as error:  # noqa: BLE001 - a broken package must break no look-up
        _LOG.warning("Installed credential resolvers cannot be listed: %s", type(error).__name__)
        return {}


def loader(
    block: CredentialResolverConfiguration,
    found: Mapping[str, EntryPoint],
    identities: Sequence[AzureEntraIdConfiguration],
) -> Callable[[], object]:
    """Return what makes the resolver of a block; imports nothing yet.

    Raises:
        InvalidConfigurationError: there is none of that name.
    """
    kind = block.kind
    if kind in BUILT_IN:
        return functools.partial(_ours, kind, block.options, identities)
    if ":" in kind:
        return functools.partial(_made, functools.partial(_imported, kind), block.options)
    if kind in found:
        return functools.partial(_made, found[kind].load, block.options)
    known = ", ".join(sorted({*BUILT_IN, *found}))
    raise InvalidConfigurationError(
        f"credential_resolvers: there is no such resolver; the resolvers are {known}, "
        'or write use: "package.module:Class"'
    )


def of_entry_point(point: EntryPoint) -> object:
    """Return the resolver of a plug-in that no block configures."""
    return _made(point.load, {})


def _ours(kind: str, options: Any, identities: Sequence[AzureEntraIdConfiguration]) -> object:
    resolver = _imported(_OURS[kind])
    return resolver(options, identities) if kind == "keyvault" else resolver(options)


def _imported(path: str) -> Any:
    module, _, names = path.partition(":")
    with importing(module):
        imported = importlib.import_module(module)
    return functools.reduce(getattr, names.split("."), imported)


def _made(load: Callable[[], Any], options: Mapping[str, Any]) -> object:
    """Return an instance of a class, made with the options; anything else is a resolver as it is."""
    thing = load()
    if inspect.isclass(thing):
        return thing(**options)
    if options:
        raise InvalidConfigurationError("options are for a class; this resolver is made already")
    return thing


UNKNOWN: tuple[Any, ...] = (None,)
"""The chain of a function that has not been called yet."""

_all: "weakref.WeakSet[Chained]" = weakref.WeakSet()
_changes = [0]
_lock = ForkLock()  # guards the two above, and every `Chained.chain`


class Chained:
    """A function whose resolvers are remembered.

    Args:
        name: what resolvers know it by.

    Attributes:
        name: see above.
        chain: the resolvers that step in; empty: the function is called, and nothing else happens.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.chain: tuple[Registration, ...] = UNKNOWN
        with _lock:
            _all.add(self)

    def remembered(
        self, ask: Callable[[str], tuple[Registration, ...]]
    ) -> tuple[Registration, ...]:
        """Return the chain; `ask` tells it by the name, where it is not known."""
        chain = self.chain
        if chain is UNKNOWN:
            changes = _changes[0]
            chain = ask(self.name)
            with _lock:
                if changes == _changes[0]:  # else somebody has registered or left meanwhile
                    self.chain = chain
        return chain


def name_of(function: Any, name: str = "") -> str:
    """Return what resolvers know a function by; that of an extensible one, if it is one.

    Raises:
        TypeError: it is neither a function nor a name.
    """
    if name or isinstance(function, str):
        return name or function
    point = getattr(function, "extensible", None)
    if isinstance(point, Chained):
        return point.name
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        raise TypeError("a function is needed, or its name") from None


def chains_changed() -> None:
    """Let each function ask the registry at its next call."""
    with _lock:
        _changes[0] += 1
        for each in list(_all):
            each.chain = UNKNOWN


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """What somebody configured; the last one counts."""

    blocks: tuple[CredentialResolverConfiguration, ...] = ()
    identities: tuple[AzureEntraIdConfiguration, ...] = ()


class ResolverRegistry:
    """The resolvers of a process; safe for any number of threads.

    Resolvers are asked in ascending `order`, equal ones in this order: plug-ins by name, then
    configured ones as written, then those registered at run time.

    Args:
        entry_points: finds the plug-ins; called once, at the first question.
        **collaborators: `clock`, `scheduler`, `launch`; see `Collaborators`.
    """

    def __init__(
        self, *, entry_points: Callable[[], Iterable[EntryPoint]] = installed, **collaborators: Any
    ) -> None:
        self._entry_points = entry_points
        self._with = Collaborators(**collaborators)
        self._lock = ForkLock()  # guards the rest
        self._found: dict[str, EntryPoint] | None = None
        self._plug_ins: list[Registration] = []
        self._configured: list[Registration] = []
        self._runtime: list[Registration] = []
        self._layers: list[_Layer] = [_Layer()]
        self._numbers = itertools.count(2)
        reset_in_child(self)

    # -- finding -----------------------------------------------------------------------------

    def discovered(self) -> Self:
        """Find the plug-ins, once; may wait for the disk."""
        if self._found is None:
            with self._lock:
                if self._found is None:
                    found = by_name(self._entry_points)
                    self._plug_ins = self._of_plug_ins(found)
                    self._found = found
        return self

    async def adiscovered(self) -> Self:
        """Do what `discovered` does without holding up the event loop."""
        if self._found is None:
            await asyncio.to_thread(self.discovered)
        return self

    def chain(self, function: str) -> tuple[Registration, ...]:
        """Return the resolvers that step into a function, in their order."""
        mine = [each for each in self._every() if function in each.settings.functions]
        return tuple(sorted(mine, key=_order))

    def status(self) -> tuple[ResolverStatus, ...]:
        """Return a snapshot of every resolver; it holds no key."""
        return tuple(each.status() for each in sorted(self._every(), key=_order))

    def refused(self, key: SecretStr) -> None:
        """Take note that a provider did not accept this key: it is not given again unasked."""
        for each in self._every():
            each.doubt(key)

    # -- registering -------------------------------------------------------------------------

    @contextmanager
    def registered(
        self,
        resolver: object,
        *,
        name: str = "",
        on: Sequence[Any] = (),
        **settings: Any,
    ) -> Iterator[Registration]:
        """Register a resolver until the block ends; blocks may overlap in any way.

        Args:
            resolver: an object with `before` or `after` or both, or a function of a question.
            name: what to call it; its own `name` or that of its class, when nothing is said.
            on: the extensible functions, or their names; those that look up keys, when empty.
            **settings: `order`, `timeout`, `on_error`, `ttl`, `stale_if_error`, `failures`, `rest`.

        Raises:
            InvalidConfigurationError: a setting cannot work, or the name is taken.
        """
        with self._lock:
            functions = frozenset(map(name_of, on)) if on else CREDENTIAL_FUNCTIONS
            called = self._free_name(name) if name else self._name_for(resolver)
            try:
                made = Settings(name=called, functions=functions).over(resolver, settings)
            except TypeError:
                unknown = ", ".join(sorted(settings))
                text = f"credential resolver {called!r}: no such setting among {unknown}"
                raise InvalidConfigurationError(text) from None
            registration = Registration(made, lambda: resolver, self._with)
            registration.runner.adopt(resolver)
            self._runtime.append(registration)
            chains_changed()
        try:
            yield registration
        finally:
            with self._lock:
                self._runtime.remove(registration)
                chains_changed()
            registration.close()

    def configure(
        self,
        blocks: Iterable[CredentialResolverConfiguration],
        identities: Sequence[AzureEntraIdConfiguration] = (),
    ) -> None:
        """Register what is configured, in the place of what was configured before.

        Args:
            blocks: `Configuration.credential_resolvers`.
            identities: `Configuration.azure_entra_id`, for resolvers that sign in to Azure; the
                process-wide manager's when none is given.

        Raises:
            InvalidConfigurationError: there is no resolver of such a name; those before stay.
        """
        layer = _Layer(tuple(blocks), tuple(identities))
        with self._lock:
            self._install([layer, *self._layers[1:]])

    @contextmanager
    def configured(
        self,
        blocks: Iterable[CredentialResolverConfiguration],
        identities: Sequence[AzureEntraIdConfiguration] = (),
    ) -> Iterator[None]:
        """Let these be what is configured until the block ends; blocks may overlap in any way."""
        layer = _Layer(tuple(blocks), tuple(identities))
        with self._lock:
            self._install([*self._layers, layer])
        try:
            yield
        finally:
            with self._lock:
                self._install([each for each in self._layers if each is not layer])

    def _install(self, layers: "list[_Layer]") -> None:
        """Register what the last layer says, if another one said it until now."""
        self.discovered()
        found = self._found or {}
        if layers[-1] is not self._layers[-1]:
            blocks, identities = layers[-1].blocks, layers[-1].identities
            made = [
                Registration(Settings.of(block), loader(block, found, identities), self._with)
                for block in blocks
                if block.enabled
            ]
            gone = [*self._plug_ins, *self._configured]
            self._configured = made
            self._plug_ins = self._of_plug_ins(found, blocks)
            for each in gone:
                each.close()
        self._layers = layers
        chains_changed()

    def after_fork(self) -> None:
        """Drop the parent's threads, flights and resolvers in a forked child."""
        for each in self._every():
            each.after_fork()

    def _of_plug_ins(
        self,
        found: dict[str, EntryPoint],
        blocks: tuple[CredentialResolverConfiguration, ...] = (),
    ) -> list[Registration]:
        """Return the plug-ins that no block speaks of, in the order of their names."""
        named = {name for block in blocks for name in (block.kind, block.name)}
        return [
            Registration(
                Settings(name=name, source="entry point"),
                functools.partial(of_entry_point, point),
                self._with,
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
        return {each.settings.name for each in self._every()}

    def _every(self) -> list[Registration]:
        with self._lock:
            return [*self._plug_ins, *self._configured, *self._runtime]


def _order(registration: Registration) -> int:
    return registration.settings.order


_process_wide = ResolverRegistry()
_standing_in: list[ResolverRegistry] = []


def current() -> ResolverRegistry:
    """Return the registry of the process, or the one that stands in for it."""
    return _standing_in[-1] if _standing_in else _process_wide


@contextmanager
def standing_in(registry: ResolverRegistry) -> Iterator[ResolverRegistry]:
    """Let this be the registry of the process until the block ends, as tests do."""
    _standing_in.append(registry)
    chains_changed()
    try:
        yield registry
    finally:
        _standing_in.remove(registry)
        chains_changed()
