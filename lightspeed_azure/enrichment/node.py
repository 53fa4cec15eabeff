"""The content of a YAML document, each part with the place where it stands in the text."""

from dataclasses import dataclass, field
from typing import Any, Literal

type Path = tuple[str | int, ...]
"""Where something is, from the outside in: ("providers", "inference", 0, "config")."""

type Kind = Literal["map", "list", "scalar"]


class Unquoted(str):
    """A scalar that YAML takes for a number or a date, as it is written."""

    __slots__ = ()


@dataclass(eq=False, slots=True)
class Node:
    """A map, a list or a scalar, once, however many aliases lead to it.

    Attributes:
        kind: which of the three.
        start: offset of its first character, that of its anchor or tag if it has one.
        end: offset behind its last character; for a block map or list, of what follows it.
        line: from 0.
        column: from 0.
        flow: whether it is written with brackets.
        style: of a scalar: "", "'", '"', "|" or ">".
        anchor: its name, or "".
        tag: whether a tag is written.
        pairs: of a map: its keys and values, merge keys (`<<`) among them.
        items: of a list.
        value: as plain Python, merge keys carried out. Aliases share one object.
        uses: how many places lead to it.
        depth: of the deepest thing within.
        size: how many values there are within, each alias counted in full.
    """

    kind: Kind
    start: int
    end: int
    line: int
    column: int
    flow: bool = False
    style: str = ""
    anchor: str = ""
    tag: bool = False
    pairs: "list[tuple[Use, Use]]" = field(default_factory=list)
    items: "list[Use]" = field(default_factory=list)
    value: Any = None
    uses: int = 1
    depth: int = 0
    size: int = 1

    def pair(self, key: str) -> "tuple[Use, Use] | None":
        """Return the key and the value of a map's own key; None when there is none."""
        for one in self.pairs:
            if str(one[0].node.value) == key and not is_merge(one[0]):
                return one
        return None


@dataclass(frozen=True, slots=True)
class Use:
    """A place in the text where a node stands, or an alias of one.

    Attributes:
        node: what it is.
        start: offset of the first character, of the alias if it is one.
        end: offset behind the last character.
        line: from 0.
        column: from 0.
        alias: its name, or "".
    """

    node: Node
    start: int
    end: int
    line: int
    column: int
    alias: str = ""


def is_merge(key: Use) -> bool:
    """Return whether a key is YAML's merge key, `<<`."""
    return key.node.value == "<<" and not key.node.style and not key.node.tag


def same(one: Any, other: Any, seen: set[tuple[int, int]] | None = None) -> bool:
    """Return whether two values are equal; what aliases share is compared once.

    Plain `==` takes for ever on aliases of aliases.
    """
    seen = set() if seen is None else seen
    if one is other or (id(one), id(other)) in seen:
        return True
    if type(one) is not type(other):
        return False
    if not isinstance(one, dict | list):
        return bool(one == other)
    if len(one) != len(other):
        return False
    seen.add((id(one), id(other)))
    if isinstance(one, list):
        return all(same(a, b, seen) for a, b in zip(one, other, strict=True))
    return all(key in other and same(value, other[key], seen) for key, value in one.items())
