"""From a name to a resolver: our own, an installed plug-in, or a class that a block names."""

import functools
import importlib
import importlib.metadata
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.credential_resolver import (
    BUILT_IN,
    GROUP,
    CredentialResolverConfiguration,
)
from lightspeed_azure.errors import InvalidConfigurationError

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
