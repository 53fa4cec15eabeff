"""The `credential_resolvers:` block: the resolvers of keys, their order and their limits."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo

from lightspeed_azure.config.block import (
    Block,
    Problem,
    closest,
    unknown_key,
)
from lightspeed_azure.config.values import SECONDS, boolean, plain_text
from lightspeed_azure.config.vaults import KeyVaultConfiguration, VaultConfiguration
from lightspeed_azure.secrets import RedactedDict, redacted

BUILT_IN: Mapping[str, type[Block]] = {
    "keyvault": KeyVaultConfiguration,
    "vault": VaultConfiguration,
}
"""The built-in resolvers and the blocks of their options."""

_KEEPS = 60.0
"""Seconds for which a result of our own resolvers is cached by default."""

_STALE = 3600.0
"""Seconds after its TTL for which a result is used while the resolver fails, by default."""

GROUP = "lightspeed_azure.credential_resolvers"
"""The entry point group in which a package names its resolvers; installed means registered."""

_NEEDS = {"keyvault": ("azure.keyvault.secrets", "keyvault"), "vault": ("hvac", "vault")}
"""The module and the extra that each built-in resolver needs."""

_STEPS = ("before", "after", "__call__")

type OnError = Literal["fallback", "fail"]


def _name(value: Any) -> str:
    text = plain_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        raise ValueError("must be a name of letters, digits, hyphens, dots and underscores")
    return text


def _use(value: Any) -> str:
    text = plain_text(value)
    if ":" in text and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", text):
        raise ValueError('must name a class; write it as "package.module:Class"')
    return text


_Long = Annotated[float, Field(ge=0, le=86400, strict=True, allow_inf_nan=False), SECONDS]


def _options(value: Any, info: ValidationInfo) -> Any:
    """Return the options of a resolver; those of a built-in one that is enabled as its block."""
    if isinstance(value, Block):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of keys and values")  # noqa: TRY004 - pydantic collects it
    # A key with an invalid value is missing from info.data; then the resolver is not known.
    kind = (info.data["use"] or info.data.get("name")) if "use" in info.data else None
    block = BUILT_IN.get(kind or "") if info.data.get("enabled") is not False else None
    return block(**redacted(value)) if block else redacted(value)


class ResolverSettings(Block):
    """The place and the limits of a resolver, however it is registered.

    Args:
        order: resolvers are called in ascending order; equal ones in the order of registration.
        timeout: seconds that one call may take.
        on_error: `fallback` treats a failure as a pass, `fail` raises.
        ttl: seconds for which a result is cached; 0 caches nothing.
        stale_if_error: seconds after the TTL for which a result is used while the resolver fails;
            None means an hour for a result that was cached at all.
        failures: how many failures in a row open the breaker.
        rest: seconds that the breaker stays open.
    """

    order: Annotated[int, Field(strict=True)] = 0
    timeout: Annotated[float, Field(gt=0, le=600, strict=True, allow_inf_nan=False), SECONDS] = 5.0
    on_error: Annotated[OnError, BeforeValidator(plain_text)] = "fallback"
    ttl: _Long | None = None
    stale_if_error: _Long | None = None
    failures: Annotated[int, Field(ge=1, strict=True)] = 3
    rest: _Long = 30.0

    @property
    def seconds_to_keep(self) -> float:
        """For how long a result is cached."""
        return self.ttl or 0.0

    @property
    def seconds_of_stale(self) -> float:
        """For how long a result is used after its TTL while the resolver fails."""
        return _STALE if self.stale_if_error is None else self.stale_if_error


class CredentialResolverConfiguration(ResolverSettings):
    """One resolver; docs/credential-resolvers.md describes every key.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    name: Annotated[str, BeforeValidator(_name)]
    use: Annotated[str | None, BeforeValidator(_use)] = None
    enabled: Annotated[StrictBool, BeforeValidator(boolean)] = True
    options: Annotated[
        Any, BeforeValidator(_options), Field(repr=False, exclude=True, validate_default=True)
    ] = RedactedDict()

    @property
    def kind(self) -> str:
        """Which resolver: one of `BUILT_IN`, a plug-in's name, or "package.module:Class"."""
        return self.use or self.name

    @property
    def seconds_to_keep(self) -> float:
        """For how long a result is cached."""
        if self.ttl is not None:
            return self.ttl
        return _KEEPS if self.kind in BUILT_IN else 0.0


def installed_names() -> frozenset[str]:
    """Return the names of the resolvers of installed packages; reads only their metadata."""
    return frozenset(point.name for point in _entry_points())


def check_kind(block: CredentialResolverConfiguration) -> Iterator[Problem]:
    """Yield why the resolver of a block cannot be created; imports its module."""
    kind = block.kind
    key = "use" if block.use else "name"
    if not block.enabled:
        return
    if kind in BUILT_IN:
        module, extra = _NEEDS[kind]
        if not _is_installed(module):
            text = (
                f"needs {module}, which is not installed: pip install 'lightspeed-azure[{extra}]'"
            )
            yield Problem((key,), text)
        return
    point = next((each for each in _entry_points() if each.name == kind), None)
    if ":" not in kind and point is None:
        known = {*BUILT_IN, *installed_names()}
        text = f"there is no such resolver; write one of {', '.join(sorted(known))}, or "
        yield Problem((key,), text + 'use: "package.module:Class"')
        return
    thing, text = _loaded(f"{point.module}:{point.attr}" if point else kind)
    if text:
        yield Problem((key,), text)
    else:
        yield from _check_made(thing, key, block.options)


def _loaded(path: str) -> tuple[Any, str]:
    """Return the object at a path, or None and why there is none."""
    module, _, names = path.partition(":")
    try:
        thing: Any = importlib.import_module(module)
    except ImportError as error:
        return None, f"cannot be imported: {error}; install its package, or correct the name"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the operator's code
        name = type(error).__name__
        return None, f"cannot be imported: {module} raises {name}; import it in Python to see why"
    for name in filter(None, names.split(".")):
        thing, before = getattr(thing, name, None), thing
        if thing is None:
            nearest = get_close_matches(name, dir(before), n=1)
            cure = f"did you mean {nearest[0]}?" if nearest else "correct the name"
            return None, f"there is no {name} in {module}; {cure}"
    return thing, ""


def _check_made(thing: Any, key: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield why a resolver cannot be created with these options."""
    if not inspect.isclass(thing):
        if options:
            yield Problem(("options",), "are for a class; this resolver is made already")
        elif not any(callable(getattr(thing, step, None)) for step in _STEPS):
            text = "is neither a class, nor a function, nor an object with before() or after(); correct it"
            yield Problem((key,), text)
        return
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return  # a class in C has no signature
    named = [
        each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    known = [each.name for each in named]
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        for name in options.keys() - {*known}:
            yield Problem(("options", name), unknown_key(name, known))
    for each in named:
        if each.default is each.empty and each.name not in options:
            yield Problem(("options",), f"lack {each.name}, which the resolver needs; add it")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _entry_points() -> Sequence[importlib.metadata.EntryPoint]:
    try:
        return tuple(importlib.metadata.entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - a broken package is told where resolvers are looked up
        return ()


def check_plugin(name: str, blocks: Sequence[CredentialResolverConfiguration]) -> Iterator[Problem]:
    """Yield the problem of a source whose resolver is misspelt or disabled.

    Any other unknown name may be a resolver that the program registers.
    """
    off = {block.name for block in blocks if not block.enabled}
    known = {block.name for block in blocks} | installed_names()
    if name in off:
        yield Problem((), "is a resolver that is switched off; remove its enabled: false")
    elif name not in known and (nearest := closest(name, known)):
        yield Problem((), f"there is no such resolver; did you mean {nearest}?")
