"""What is wrong with a configuration: every problem, each with the key it belongs to.

No text here ever repeats a value that the operator wrote: it could be a secret in the wrong place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lightspeed_azure.config.values import Unit, parts_of
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
    """Return a key as an operator reads it: `azure_entra_id[1].scope`.

    A part that does not look like a key is left out: it may be a secret in the wrong place.
    """
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _KEY.fullmatch(part) else "…"
            text += f".{name}" if text else name
    return text


_KEY = re.compile(r"[A-Za-z_-]{1,40}|[\w.:-]{1,16}", re.ASCII)


def closest(name: object, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known name that `name` is most likely a misspelling of, if any."""
    if not isinstance(name, str):
        return None
    found = get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def meant(name: object, known: Iterable[str]) -> str:
    """Return the cure for a name that is none of the known ones: the closest, or all of them."""
    nearest = closest(name, known, cutoff=0.6)
    return f"did you mean {nearest}?" if nearest else f"write one of {', '.join(sorted(known))}"


def unknown_key(name: object, known: Iterable[str]) -> str:
    """Return the text for a key that is none of ours."""
    names = sorted(known)
    nearest = closest(name, names)
    if nearest:
        return f"there is no such key; did you mean {nearest}?"
    return f"there is no such key; the keys are {', '.join(names) or 'none'}"


def of_validation(error: ValidationError, known: Mapping[str, FieldInfo]) -> list[Problem]:
    """Return pydantic's findings as problems; no text repeats a value.

    Args:
        error: what pydantic raised for a block.
        known: the fields of the block.
    """
    found: list[Problem] = []
    for detail in error.errors(include_url=False, include_input=False):
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, LocatedConfigurationError):  # a block within this one
            found += [Problem((*detail["loc"], *each.key), each.text) for each in inner.located]
            continue
        key = tuple(part for part in detail["loc"] if isinstance(part, int) or part in known)
        if detail["type"] == "extra_forbidden":
            name = detail["loc"][-1]
            found.append(Problem((*key, name), unknown_key(name, known)))
        else:
            unit = unit_of(known.get(str(detail["loc"][0]))) if detail["loc"] else ""
            found.append(Problem(key or detail["loc"], _text(detail, unit)))
    return found


def unit_of(field: FieldInfo | None) -> str:
    """Return the unit of a field's number, "" when it has none."""
    if field is None:
        return ""
    parts = [*field.metadata, *parts_of(field.annotation)]
    return next((str(part) for part in parts if isinstance(part, Unit)), "")


_TEXTS: Mapping[str, str] = {
    "bool_type": "must be true or false; write it without quotes",
    "float_type": "must be a number{of_unit}; write it without quotes",
    "int_type": "must be a whole number{of_unit}; write it without quotes",
    "finite_number": "must be a finite number{of_unit}",
    "greater_than": "must be more than {gt}{unit}",
    "greater_than_equal": "must be at least {ge}{unit}",
    "less_than_equal": "must be at most {le}{unit}",
    "literal_error": "must be one of {choices}",
    "string_type": "must be text; put the value in quotes",
    "path_type": "must be the path of a file; put the value in quotes",
    "missing": "is missing; add it",
}


def _text(detail: Any, unit: str) -> str:
    """Return the text of one finding; its limits and choices are those of the finding itself."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    template = _TEXTS.get(detail["type"])
    if template is None:
        return f"is not valid ({detail['type']}); see docs/credentials.md"
    context = {
        name: f"{value:.15g}" if isinstance(value, float) else value
        for name, value in detail.get("ctx", {}).items()
    }
    choices = ", ".join(re.findall(r"'([^']*)'", str(context.get("expected", ""))))
    of_unit, unit = (f" of {unit}", f" {unit}") if unit else ("", "")
    return template.format(of_unit=of_unit, unit=unit, choices=choices, **context)
