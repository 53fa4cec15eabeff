"""What is wrong with a configuration: every problem, each with the key it belongs to.

No text here ever repeats a value that the operator wrote: it could be a secret in the wrong place.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError

from lightspeed_azure.errors import InvalidConfigurationError

Key = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        key: where, from the outside in, such as ("azure_entra_id", 1, "scope").
        text: what is wrong and what to do, without any value.
    """

    key: Key
    text: str

    def line(self, where: str = "") -> str:
        """Return the problem as one line: `where: key: what; cure`."""
        return ": ".join(part for part in (where, dotted(self.key), self.text) if part)


class LocatedConfigurationError(InvalidConfigurationError):
    """An `InvalidConfigurationError` that still knows the key of each problem.

    Attributes:
        located: the problems with their keys.
    """

    def __init__(self, located: Iterable[Problem]) -> None:
        self.located: tuple[Problem, ...] = tuple(located)
        super().__init__(*(problem.line() for problem in self.located))


def dotted(key: Sequence[str | int]) -> str:
    """Return a key as an operator reads it: `azure_entra_id[1].scope`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def closest(name: object, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known name that `name` is most likely a misspelling of, if any."""
    if not isinstance(name, str):
        return None
    found = get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def unknown_key(name: object, known: Iterable[str]) -> str:
    """Return the text for a key that is none of ours."""
    names = sorted(known)
    nearest = closest(name, names)
    if nearest:
        return f"there is no such key; did you mean {nearest}?"
    return f"there is no such key; the keys are {', '.join(names)}"


def of_validation(error: ValidationError, known: Iterable[str]) -> list[Problem]:
    """Return pydantic's findings as problems, in words that repeat no value."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False, include_input=False):
        key = tuple(part for part in detail["loc"] if isinstance(part, int) or part in known)
        if detail["type"] == "extra_forbidden":
            name = detail["loc"][-1]
            found.append(Problem((*key, name), unknown_key(name, known)))
        else:
            found.append(Problem(key or detail["loc"], _TEXTS.get(detail["type"]) or _text(detail)))
    return found


_TEXTS: Mapping[str, str] = {
    "bool_type": "must be true or false; write it without quotes",
    "float_type": "must be a number of seconds; write it without quotes",
    "finite_number": "must be a number of seconds",
    "greater_than": "must be more than 0 seconds",
    "less_than_equal": "must be at most 3600 seconds",
    "literal_error": "must be one of public, us_government, china",
    "string_type": "must be text; put the value in quotes",
    "path_type": "must be the path of a file; put the value in quotes",
    "missing": "is missing; add it",
}


def _text(detail: Any) -> str:
    """Return the text of a validator of ours, or only pydantic's name for the fault."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return f"is not valid ({detail['type']}); see docs/credentials.md"
