"""How a resolver is registered: its name, its place, its limits."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from lightspeed_azure.config.credential_resolver import (
    CredentialResolverConfiguration,
    OnError,
)
from lightspeed_azure.errors import InvalidConfigurationError

CREDENTIAL_FUNCTIONS = frozenset({"get_api_key", "resolve_credential"})
"""Where a resolver steps in when nothing else is said."""

_STALE = 3600.0
"""Seconds that a kept answer stands in for a failing resolver, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one registered resolver.

    Attributes:
        name: what it is called in messages, metrics and `resolver=`.
        order: resolvers are asked in ascending order; equal ones in that of their registration.
        timeout: seconds that one answer may take.
        on_error: `fallback` goes on as if it had passed, `fail` raises.
        ttl: seconds for which an answer is given again; 0 asks each time.
        stale_if_error: seconds after those for which it stands in while the resolver fails; None
            means an hour where `ttl` keeps answers at all.
        failures: how many failures in a row make it rest.
        rest: seconds that it is left alone then.
        functions: into which functions it steps.
        source: where it was registered: "run time", "configuration" or "entry point".
    """

    name: str
    order: int = 0
    timeout: float = 5.0
    on_error: OnError = "fallback"
    ttl: float = 0.0
    stale_if_error: float | None = None
    failures: int = 3
    rest: float = 30.0
    functions: frozenset[str] = CREDENTIAL_FUNCTIONS
    source: str = "run time"

    def __post_init__(self) -> None:
        problems = [
            f"credential resolver {self.name!r}: {key} must be {what}"
            for key, what, good in (
                ("timeout", "more than 0 and at most 600 seconds", 0 < self.timeout <= 600),
                ("ttl", "0 to 86400 seconds", 0 <= self.ttl <= 86400),
                ("rest", "0 to 86400 seconds", 0 <= self.rest <= 86400),
                ("failures", "1 or more", self.failures >= 1),
                ("on_error", "fallback or fail", self.on_error in ("fallback", "fail")),
            )
            if not good
        ]
        if problems:
            raise InvalidConfigurationError(*problems)

    @classmethod
    def of(cls, block: CredentialResolverConfiguration) -> Self:
        """Return the settings that an operator wrote."""
        return cls(
            name=block.name,
            order=block.order,
            timeout=block.timeout,
            on_error=block.on_error,
            ttl=block.seconds_to_keep,
            stale_if_error=block.stale_if_error,
            failures=block.failures,
            rest=block.rest,
            source="configuration",
        )

    @property
    def stale(self) -> float:
        """Seconds that a kept answer stands in for a failing resolver."""
        if self.stale_if_error is not None:
            return self.stale_if_error
        return _STALE

    def over(self, resolver: object, given: Mapping[str, Any]) -> Self:
        """Return these, with the resolver's own attributes as defaults, and what was given over them."""
        own = {
            name: value
            for name in _OWN
            if isinstance(value := getattr(resolver, name, None), int | float | str)
        }
        return replace(self, **{**own, **given})


_OWN = tuple(
    field.name for field in fields(Settings) if field.name not in ("name", "functions", "source")
)
