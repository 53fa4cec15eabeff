"""`${env.…}` in a whole block of the operator's file."""

from collections.abc import Collection, Mapping
from typing import Any

from lightspeed_azure.config.environment import UnsetVariableError, convert, expand
from lightspeed_azure.config.problems import Key, Problem


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
        try:
            expanded = expand(value, environ)
        except UnsetVariableError as error:
            text = f"{error}; set it, or write ${{env.{error.name}:=a default}}"
            broken.append(Problem((*within, name), text))
            # Something stands here, so that the rest of the block is judged as it is meant.
            expanded = "" if name in typed else "https://unset.invalid/.default"
        if expanded == value:
            values[name] = value
        elif expanded:
            values[name] = convert(expanded) if name in typed else expanded
    return values, broken
