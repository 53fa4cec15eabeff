"""`${env.NAME}` in a value, with Llama Stack's meaning.

The rules are those of `llama_stack.core.stack.replace_env_vars` (0.7.3), so that one file reads
the same to Llama Stack and to us; the tests compare the two::

    ${env.NAME}          the variable; an error when it is unset or empty
    ${env.NAME:=other}   the variable, or `other` when it is unset or empty
    ${env.NAME:+value}   `value` when the variable is set and not empty, else nothing
    ${env.NAME:other}    no substitution: the text stays as it is

A leading `~` of what is put in becomes the home directory. When something was put in, the whole
text turns into None, a boolean or a number if it reads like one.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from lightspeed_azure.enrichment.references import REFERENCE


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


def substitute(text: str, environ: Mapping[str, str]) -> Any:
    """Return `text` with its references replaced and, if there were any, converted.

    Raises:
        UnsetVariableError: a reference without a default names an unset or empty variable.
    """
    expanded = expand(text, environ)
    return text if expanded == text else convert(expanded)
