"""The base of our blocks in the operator's file, and the problems that a block reports.

A block reports all of its problems at once, those of the blocks inside it included. No text repeats
a value that the operator wrote: it could be a secret in the wrong place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from lightspeed_azure.config.values import Unit, parts_of
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import RedactedDict, redacted

Key = tuple[str | int, ...]


class Problem(NamedTuple):
    """One problem of a configuration.

    Attributes:
        key: its place, from the outside in, such as ("azure_entra_id", 1, "scope").
        text: what is wrong and what to do, without any value.
    """

    key: Key
    text: str

    def line(self, where: str = "") -> str:
        """Return the problem as one line: `where: key: what; cure`."""
        return ": ".join(part for part in (where, dotted(self.key), self.text) if part)

    def below(self, key: Key) -> "Problem":
        """Return the problem with its key below another one."""
        return Problem((*key, *self.key), self.text)


class LocatedConfigurationError(InvalidConfigurationError):
    """An `InvalidConfigurationError` with the key of each problem.

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
    """Return the known name that `name` most likely misspells, if any."""
    if not isinstance(name, str):
        return None
    found = get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def meant(name: object, known: Iterable[str]) -> str:
    """Return the cure for an unknown name: the closest known one, or all of them."""
    nearest = closest(name, known, cutoff=0.6)
    return f"did you mean {nearest}?" if nearest else f"write one of {', '.join(sorted(known))}"


def unknown_key(name: object, known: Iterable[str]) -> str:
    """Return the text for an unknown key."""
    names = sorted(known)
    nearest = closest(name, names)
    if nearest:
        return f"there is no such key; did you mean {nearest}?"
    return f"there is no such key; the keys are {', '.join(names) or 'none'}"


def validation_problems(error: ValidationError, known: Mapping[str, FieldInfo]) -> list[Problem]:
    """Return pydantic's errors as problems.

    Args:
        error: the error of a block.
        known: the fields of the block.
    """
    found: list[Problem] = []
    for detail in error.errors(include_url=False, include_input=False):
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, LocatedConfigurationError):  # a block within this one
            found += [each.below(detail["loc"]) for each in inner.located]
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
    """Return the text of one error, with the limits and choices of the error itself."""
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


class Block(BaseModel):
    """A block of `lightspeed-stack.yaml`: immutable, and compared by value.

    Raises:
        InvalidConfigurationError: from the constructor, with every problem of the block.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
        arbitrary_types_allowed=False,
    )

    def __init__(self, /, **data: Any) -> None:
        data = RedactedDict(data)
        given = RedactedDict((name, value) for name, value in data.items() if value is not None)
        problems = self.cross_check(given)
        try:
            super().__init__(**given)
        except ValidationError as error:
            seen = {problem.key for problem in problems}
            found = validation_problems(error, type(self).model_fields)
            problems += [problem for problem in found if problem.key not in seen]
        if problems:
            raise LocatedConfigurationError(problems)

    @model_validator(mode="before")
    @classmethod
    def _take_map(cls, value: Any) -> Any:
        """Accept a map where a block stands inside another one."""
        if isinstance(value, Mapping):
            return redacted(value)
        if isinstance(value, cls):
            return value
        raise ValueError("must be a map of keys and values")

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return the problems of keys taken together; the fields check each value."""
        del given
        return []

    @classmethod
    def from_object(cls, obj: object) -> Self:
        """Return the block that an object describes.

        Args:
            obj: an instance, a mapping, or any object with attributes named like our keys, such
                as lightspeed-stack's own configuration model. Its other attributes are ignored.

        Raises:
            InvalidConfigurationError: it cannot work.
        """
        if isinstance(obj, cls):
            return obj
        if isinstance(obj, Mapping):
            given: dict[str, Any] = redacted(obj)
            del obj
            return cls(**given)
        return cls(**cls.foreign_values(obj))

    @classmethod
    def foreign_values(cls, obj: object) -> dict[str, Any]:
        """Return the attributes of a foreign object that are named like our keys and have a value."""
        return attributes(obj, cls.model_fields)


def attributes(obj: object, names: Mapping[str, object]) -> dict[str, Any]:
    """Return the attributes of a foreign object whose values a configuration can hold."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(obj, name, None)
        if isinstance(value, str | bool | int | float | Path | SecretStr | Mapping | BaseModel):
            found[name] = value
        elif type(value).__module__.startswith("pydantic"):  # such as AnyHttpUrl
            found[name] = str(value)
        elif callable(read := getattr(value, "get_secret_value", None)):
            secret = read()
            if isinstance(secret, str):
                found[name] = secret
    return found


def typed_keys(*blocks: type[Block]) -> frozenset[str]:
    """Return the names of the fields that hold a boolean or a number, nested blocks included."""
    found: set[str] = set()
    for block in blocks:
        for name, field in block.model_fields.items():
            types = [part for part in parts_of(field.annotation) if isinstance(part, type)]
            if {bool, int, float}.intersection(types):
                found.add(name)
            found |= typed_keys(*(part for part in types if issubclass(part, Block)))
    return frozenset(found)
