"""The `credential_resolvers:` block: who answers for keys, in which order, within which limits."""

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.key_vault import KeyVaultConfiguration
from lightspeed_azure.config.problems import LocatedConfigurationError, Problem, closest
from lightspeed_azure.config.unshown import Unshown, unshown
from lightspeed_azure.config.values import SECONDS, boolean, plain_text
from lightspeed_azure.config.vault import VaultConfiguration

BUILT_IN: Mapping[str, type[Block]] = {
    "keyvault": KeyVaultConfiguration,
    "vault": VaultConfiguration,
}
"""Our own resolvers, and what their options are."""

_KEEPS = 60.0
"""Seconds for which an answer of our own resolvers is given again, where nothing else is said."""

GROUP = "lightspeed_azure.credential_resolvers"
"""The entry point group in which a package names its resolvers; installed means registered."""

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


def _options(value: Any) -> Any:
    if isinstance(value, Block):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of keys and values")  # noqa: TRY004 - pydantic collects it
    return unshown(value)


class CredentialResolverConfiguration(Block):
    """One resolver; docs/credential-resolvers.md describes every key.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    name: Annotated[str, BeforeValidator(_name)]
    use: Annotated[str | None, BeforeValidator(_use)] = None
    enabled: Annotated[StrictBool, BeforeValidator(boolean)] = True
    order: Annotated[int, Field(strict=True)] = 0
    timeout: Annotated[float, Field(gt=0, le=600, strict=True, allow_inf_nan=False), SECONDS] = 5.0
    on_error: Annotated[OnError, BeforeValidator(plain_text)] = "fallback"
    ttl: _Long | None = None
    stale_if_error: _Long | None = None
    failures: Annotated[int, Field(ge=1, strict=True)] = 3
    rest: _Long = 30.0
    options: Annotated[Any, BeforeValidator(_options), Field(repr=False, exclude=True)] = Unshown()

    def __init__(self, /, **data: Any) -> None:
        data = Unshown(data)
        kind, options = _kind(data), data.get("options")
        # Another key's problem hides none of the options', and the other way round: see cross_check.
        if kind in BUILT_IN and isinstance(options, Mapping) and not _wrong(kind, options):
            data["options"] = BUILT_IN[kind](**{str(key): value for key, value in options.items()})
        elif kind in BUILT_IN and options is None:
            data["options"] = Unshown()
        super().__init__(**data)

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the options of our own resolvers."""
        options = given.get("options")
        kind = _kind(given)
        if given.get("enabled") is False or kind not in BUILT_IN or isinstance(options, Block):
            return []
        if not isinstance(options, Mapping):
            return []
        return [
            Problem(("options", *problem.key), problem.text) for problem in _wrong(kind, options)
        ]

    @property
    def kind(self) -> str:
        """Which resolver: one of `BUILT_IN`, a plug-in's name, or "package.module:Class"."""
        return self.use or self.name

    @property
    def seconds_to_keep(self) -> float:
        """For how long an answer is given again."""
        if self.ttl is not None:
            return self.ttl
        return _KEEPS if self.kind in BUILT_IN else 0.0


def installed_names() -> frozenset[str]:
    """Return the names of the resolvers that installed packages bring; reads their metadata alone."""
    try:
        return frozenset(point.name for point in importlib.metadata.entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - a broken package is told where resolvers are looked up
        return frozenset()


def check_kind(block: CredentialResolverConfiguration) -> Iterator[Problem]:
    """Yield that there is no resolver of the block's kind; a class is not imported for that."""
    kind = block.kind
    if not block.enabled or kind in BUILT_IN or ":" in kind:
        return
    known = {*BUILT_IN, *installed_names()}
    if kind not in known:
        text = f"there is no resolver {kind}; write one of {', '.join(sorted(known))}, or "
        yield Problem(("use" if block.use else "name",), text + 'use: "package.module:Class"')


def check_plugin(name: str, blocks: Sequence[CredentialResolverConfiguration]) -> Iterator[Problem]:
    """Yield that a source names no resolver: a slip, or one that is off.

    Another name may be that of one that the program registers.
    """
    off = {block.name for block in blocks if not block.enabled}
    known = {block.name for block in blocks} | installed_names()
    if name in off:
        yield Problem((), "is a resolver that is switched off; remove its enabled: false")
    elif name not in known and (nearest := closest(name, known)):
        yield Problem((), f"there is no resolver {name}; did you mean {nearest}?")


def _kind(data: Mapping[str, Any]) -> str:
    return str(data.get("use") or data.get("name") or "").strip()


def _wrong(kind: str, options: Mapping[Any, Any]) -> tuple[Problem, ...]:
    try:
        BUILT_IN[kind](**{str(key): value for key, value in options.items()})
    except LocatedConfigurationError as error:
        return error.located
    return ()
