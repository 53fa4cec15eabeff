"""A YAML document (JSON is YAML): its content, and the position of each part in the text.

ruamel.yaml composes the nodes; no tag is obeyed and no alias is expanded. Each node has its
offsets in the text, except that an alias is the node of its anchor.
"""

import re
from functools import cached_property
from typing import Any, NamedTuple

from lightspeed_azure.enrichment.yaml_faults import (
    UNDEFINED_ALIAS,
    explain,
    find_control_character,
    is_json,
)
from lightspeed_azure.errors import InvalidConfigurationError

type Path = tuple[str | int, ...]
"""Where something is, from the outside in: ("providers", "inference", 0, "config")."""

LARGEST = 1 << 20
"""Characters: the largest configuration that a stack ships with has 12 thousand."""

DEEPEST = 100
"""Levels, aliases included; it keeps every recursion short of Python's own limit."""

_TOO_DEEP = f"is nested more than {DEEPEST} levels deep"
_NUMERIC = frozenset("+-.0123456789")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s*)*")


class Unquoted(str):
    """A scalar that YAML takes for a number or a date, as it is written."""

    __slots__ = ()


class Step(NamedTuple):
    """One part of a path, as it is written.

    Attributes:
        key: the node of the key; None for an item of a list.
        node: the node of the value.
        aliased: whether an alias is written in the place of the value.
    """

    key: Any
    node: Any
    aliased: bool


class Document:
    """The one document of a text.

    Args:
        text: YAML or JSON.
        name: what to call it in messages.

    Raises:
        InvalidConfigurationError: it cannot be read; the message names the line, and never a value.

    Attributes:
        text: as given, but JSON that is indented with tabs, which YAML forbids, has spaces.
        root: the node of its content.
        value: its content as plain Python. Numbers and dates are `Unquoted` text, merge keys are
            applied, and aliases share one object.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        if len(text) > LARGEST:
            raise InvalidConfigurationError(
                f"{name}: is larger than 1 MiB, which no stack's configuration is; give that file"
            )
        if "\t" in text and text.lstrip("\ufeff \t\r\n").startswith("{") and is_json(text):
            text = text.replace("\t", "  ")  # JSON strings cannot contain a literal tab
        self.text = text
        self.root = self._compose()
        self._values: dict[int, Any] = {}
        self._heights: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._shared: set[int] = set()
        try:
            self.value = self._value(self.root)
        except RecursionError:
            raise self.error(None, _TOO_DEEP) from None

    def error(self, line: int | None, problem: str) -> InvalidConfigurationError:
        """Return the error for a line, counted from 0; None when it belongs to no line."""
        where = self.name if line is None else f"{self.name}:{line + 1}"
        return InvalidConfigurationError(f"{where}: {problem}")

    def steps(self, path: Path) -> list[Step]:
        """Return the parts of a path as they are written, up to the first that is not there."""
        steps: list[Step] = []
        node = self.root
        for part in path:
            step = self._item(node, part) if isinstance(part, int) else self._pair(node, part)
            if step is None:
                break
            steps.append(step)
            node = step.node
        return steps

    def line(self, path: Path) -> int:
        """Return the line, from 0, of a key or an item of a list, or of the nearest around it."""
        line: int = self.root.start_mark.line
        for step in self.steps(path):
            if step.key is not None:
                line = step.key.start_mark.line
            elif not step.aliased:
                line = step.node.start_mark.line
        return line

    def is_shared(self, node: Any) -> bool:
        """Return whether an alias leads to a node."""
        return id(node) in self._shared

    def content_start(self, node: Any) -> int:
        """Return the offset of a node's content, behind its anchor and its tag."""
        match = _PROPERTIES.match(self.text, node.start_mark.index)
        start = match.end() if match else node.start_mark.index
        return int(min(start, max(node.end_mark.index, node.start_mark.index)))

    @cached_property
    def newline(self) -> str:
        """How this text ends its lines."""
        return "\r\n" if "\r\n" in self.text else "\n"

    @cached_property
    def quote(self) -> str:
        """What new keys are quoted with: JSON requires quotes."""
        pairs = self.root.value
        return pairs[0][0].style or "" if self.root.flow_style and pairs else ""

    def _compose(self) -> Any:
        from ruamel.yaml import YAML  # noqa: PLC0415 - 60 ms, and only needed when there is a file
        from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

        failure: InvalidConfigurationError
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False
        try:
            root = yaml.compose(self.text)
        except MarkedYAMLError as error:
            line, problem = explain(error)
            failure = self.error(line, problem)
        except RecursionError:
            failure = self.error(None, _TOO_DEEP)
        except (YAMLError, ValueError, OverflowError, AssertionError, IndexError):
            line, problem = find_control_character(self.text)
            failure = self.error(line, problem)
        else:
            if root is not None:
                return root
            failure = self.error(None, "is empty; give a stack's configuration")
        raise failure

    def _value(self, node: Any) -> Any:
        if id(node) in self._values:
            self._shared.add(id(node))
            return self._values[id(node)]
        if id(node) in self._unfinished:
            raise self.error(node.start_mark.line, UNDEFINED_ALIAS)
        self._unfinished.add(id(node))
        if node.id == "scalar":
            tag = node.tag.rpartition(":")[2] if "!" in self._properties(node) else ""
            value = _scalar(node.value, tag or ("str" if node.style else ""))
        elif node.id == "sequence":
            value = [self._value(item) for item in node.value]
        else:
            value = self._mapping(node)
        self._unfinished.discard(id(node))
        self._values[id(node)] = value
        self._heights[id(node)] = height = self._height(node)
        if height > DEEPEST:
            raise self.error(node.start_mark.line, _TOO_DEEP)
        return value

    def _height(self, node: Any) -> int:
        if node.id == "scalar":
            return 0
        held = node.value if node.id == "sequence" else [value for _, value in node.value]
        return 1 + max((self._heights[id(each)] for each in held), default=0)

    def _mapping(self, node: Any) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, held in node.value:
            if key.id != "scalar":
                raise self.error(key.start_mark.line, "a key must be text, not a map or a list")
            value = self._value(held)
            if is_merge(key):
                for part in value if held.id == "sequence" else [value]:
                    if not isinstance(part, dict):
                        raise self.error(key.start_mark.line, "<<: merges maps, and nothing else")
                    merged = part | merged
                continue
            name = str(self._value(key))
            if name in own:
                shown = f"{name}:" if re.fullmatch("[a-z_]{1,40}", name) else "a key"
                raise self.error(key.start_mark.line, f"{shown} is given twice; keep one")
            own[name] = value
        return merged | own if merged else own

    def _properties(self, node: Any) -> str:
        return self.text[node.start_mark.index : self.content_start(node)]

    def _pair(self, node: Any, name: str) -> Step | None:
        for key, value in node.value if node.id == "mapping" else ():
            if not is_merge(key) and str(self._values[id(key)]) == name:
                return Step(key, value, value.start_mark.index < key.end_mark.index)
        return None

    def _item(self, node: Any, index: int) -> Step | None:
        if node.id != "sequence" or index >= len(node.value):
            return None
        item = node.value[index]
        earlier = (one.end_mark.index for one in node.value[:index])
        begun = max(earlier, default=node.start_mark.index)
        return Step(None, item, not begun <= item.start_mark.index < node.end_mark.index)


def is_merge(key: Any) -> bool:
    """Return whether a key's node is YAML's merge key, `<<`."""
    return bool(key.value == "<<" and not key.style and key.tag == "tag:yaml.org,2002:merge")


def equal_values(one: Any, other: Any, seen: set[tuple[int, int]] | None = None) -> bool:
    """Return whether two values are equal; what aliases share is compared once.

    Plain `==` takes exponential time on aliases of aliases.
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
        return all(equal_values(a, b, seen) for a, b in zip(one, other, strict=True))
    return all(key in other and equal_values(value, other[key], seen) for key, value in one.items())


def _scalar(text: str, tag: str) -> Any:
    """Return what a stack's own parser (YAML 1.1) makes of a scalar; numbers and dates stay text.

    Args:
        text: its text.
        tag: the last part of its explicit tag, "str" when it is quoted, "" when it is plain.
    """
    if tag == "str":
        return text
    if tag in ("", "int", "float", "timestamp") and text[:1] in _NUMERIC:
        return Unquoted(text)
    if tag == "null" or (not tag and (text in ("", "~") or text.lower() == "null")):
        return None
    if tag in ("", "bool") and text.lower() in ("true", "yes", "on"):
        return True
    if tag in ("", "bool") and text.lower() in ("false", "no", "off"):
        return False
    return text
