"""`${env.…}` in a whole block of the operator's file."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from lightspeed_azure.config.environment import UnsetVariableError, convert, expand
from lightspeed_azure.config.problems import Key, Problem
from lightspeed_azure.enrichment.references import malformed_reference

_SECRET = re.compile(r"(key|password|secret|token|value)$")
"""The names of keys that hold a secret."""

_OF_THE_STACK = frozenset(["native_override", "inference_providers"])
"""Keys that become part of the stack's own file: the stack replaces the references in them."""


def substituted(
    item: Mapping[Any, Any],
    environ: Mapping[str, str],
    typed: Collection[str],
    within: Key = (),
) -> tuple[dict[Any, Any], list[Problem]]:
    """Replace `${env.…}` in a block; a key that comes out empty counts as not given.

    Args:
        item: the block.
        environ: the environment to ask.
        typed: the keys whose substituted text becomes a boolean or a number. Any other stays a
            text, such as a secret that consists of digits.
        within: where the block is.
    """
    values: dict[Any, Any] = {}
    broken: list[Problem] = []
    for name, value in item.items():
        if name in _OF_THE_STACK:
            values[name] = value
            continue
        if isinstance(value, Mapping):
            values[name], more = substituted(value, environ, typed, (*within, name))
            broken += more
            continue
        if isinstance(value, list):
            items, more = substituted(dict(enumerate(value)), environ, typed, (*within, name))
            values[name] = list(items.values())
            broken += more
            continue
        if not isinstance(value, str):
            values[name] = value
            continue
        problem = malformed_reference(value)
        expanded = value
        try:
            expanded = expand(value, environ)
        except UnsetVariableError as error:
            problem = problem or f"{error}; {_cure(error, (*within, name))}"
        if problem:
            broken.append(Problem((*within, name), problem))
            # Something stands here, so that the rest of the block is judged as it is meant.
            expanded = "" if name in typed else "https://unset.invalid/.default"
        if expanded == value:
            values[name] = value
        elif expanded:
            values[name] = convert(expanded) if name in typed else expanded
    return values, broken


def _cure(error: UnsetVariableError, key: Key) -> str:
    """Return what to do about a variable without a value; a secret never gets a default."""
    give = "give it a value" if error.is_set else "set it"
    name = next((part for part in reversed(key) if isinstance(part, str)), "")
    if _SECRET.search(name):
        return f"{give} where the service runs"
    return f"{give}, or write ${{env.{error.name}:=a default}}"
