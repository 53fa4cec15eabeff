"""`${env.NAME}` in a block, with Llama Stack's meaning.

The rules are those of `llama_stack.core.stack.replace_env_vars` (0.7.3), so that one file reads
the same to Llama Stack and to us; the tests compare the two::

    ${env.NAME}          the variable; an error when it is unset or empty
    ${env.NAME:=other}   the variable, or `other` when it is unset or empty
    ${env.NAME:+value}   `value` when the variable is set and not empty, else nothing
    ${env.NAME:other}    no substitution: the text stays as it is

A leading `~` of the substituted value becomes the home directory. A text with a substitution is
then converted to None, a boolean or a number if it reads like one.
"""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from lightspeed_azure.config.block import Key, Problem
from lightspeed_azure.enrichment.references import REFERENCE, malformed_reference


class UnsetVariableError(LookupError):
    """`${env.NAME}` names a variable that is unset or empty.

    Attributes:
        name: the variable's name.
        is_set: whether it is set, to an empty text.
    """

    def __init__(self, name: str, *, is_set: bool = False) -> None:
        super().__init__(f"environment variable {name} is {'empty' if is_set else 'not set'}")
        self.name = name
        self.is_set = is_set


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its references replaced, still as text.

    Raises:
        UnsetVariableError: a reference without a default names an unset or empty variable.
    """

    def value_of(match: re.Match[str]) -> str:
        name, operator, operand = match.groups()
        value = environ.get(name)
        if operator == "=":
            value = value or operand
        elif operator == "+":
            value = operand if value else ""
        elif not value:
            raise UnsetVariableError(name, is_set=name in environ)
        return os.path.expanduser(value or "")  # noqa: PTH111 - a text, which need not be a path

    return REFERENCE.sub(value_of, text)


def convert(text: str) -> Any:
    """Return what Llama Stack makes of a substituted text: None, bool, int, float or the text."""
    if text == "":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


_SECRET = re.compile(r"(key|password|secret|token|value)$")
"""The names of keys that hold a secret."""

_OF_THE_STACK = frozenset(["native_override", "inference_providers"])
"""Keys that become part of the stack's own file: the stack replaces the references in them."""


def substitute_block(
    item: Mapping[Any, Any],
    environ: Mapping[str, str],
    typed: Collection[str],
    within: Key = (),
) -> tuple[dict[Any, Any], list[Problem]]:
    """Replace `${env.…}` in a block, and return the problems found; a key whose value becomes empty is left out.

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
            values[name], more = substitute_block(value, environ, typed, (*within, name))
            broken += more
            continue
        if isinstance(value, list):
            items, more = substitute_block(dict(enumerate(value)), environ, typed, (*within, name))
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
            # A stand-in, so that the rest of the block is checked as it is meant.
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
