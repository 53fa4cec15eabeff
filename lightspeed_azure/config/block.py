"""What our blocks of the operator's file have in common: all problems at once, and no values in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from lightspeed_azure.config.problems import LocatedConfigurationError, Problem, of_validation
from lightspeed_azure.config.values import parts_of
from lightspeed_azure.secrets import RedactedDict, redacted


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
            found = of_validation(error, type(self).model_fields)
            problems += [problem for problem in found if problem.key not in seen]
        if problems:
            raise LocatedConfigurationError(problems)

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together; each value is judged elsewhere."""
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
    """Return those attributes of a foreign object that carry a value a configuration may have."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(obj, name, None)
        if isinstance(value, str | bool | int | float | Path | SecretStr | Mapping | BaseModel):
            found[name] = value
        elif type(value).__module__.startswith("pydantic"):  # AnyHttpUrl and its like
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
