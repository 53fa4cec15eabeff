"""`${env.…}` in a whole block of the operator's file."""

from collections.abc import Mapping
from typing import Any

from lightspeed_azure.config.environment import UnsetVariableError, convert, expand
from lightspeed_azure.config.problems import Key, Problem
from lightspeed_azure.config.proxy import TYPED as PROXY_TYPED

_TYPED = frozenset(
    [
        "allow_insecure",
        "allow_unauthenticated",
        "azure_cli",
        "deadline",
        "default",
        "enabled",
        "failures",
        "key_cooldown",
        "key_refresh",
        "leeway",
        "order",
        "prefetch",
        "rest",
        "send_certificate_chain",
        "stale_if_error",
        "timeout",
        "ttl",
        "use_as_library_client",
        "verify_challenge_resource",
        *PROXY_TYPED,
    ]
)
"""Keys whose substituted text becomes a boolean or a number; a secret of digits stays a text."""


def substituted(
    item: Mapping[Any, Any], environ: Mapping[str, str], within: Key = ()
) -> tuple[dict[Any, Any], list[Problem]]:
    """Replace `${env.…}` in a block; a key that comes out empty counts as not given."""
    values: dict[Any, Any] = {}
    broken: list[Problem] = []
    for name, value in item.items():
        if isinstance(value, Mapping):
            values[name], more = substituted(value, environ, (*within, name))
            broken += more
            continue
        if isinstance(value, list):
            items, more = substituted(dict(enumerate(value)), environ, (*within, name))
            values[name] = list(items.values())
            broken += more
            continue
        if not isinstance(value, str):
            values[name] = value
            continue
        try:
            expanded = expand(value, environ)
        except UnsetVariableError as error:
            text = f"{error}; set it, or write ${{env.{error.name}:=a default}}"
            broken.append(Problem((*within, name), text))
            # Something stands here, so that the rest of the block is judged as it is meant.
            expanded = "" if name in _TYPED else "https://unset.invalid/.default"
        if expanded == value:
            values[name] = value
        elif expanded:
            values[name] = convert(expanded) if name in _TYPED else expanded
    return values, broken
