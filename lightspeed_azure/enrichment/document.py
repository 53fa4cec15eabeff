"""A YAML document (or JSON, which is YAML), parsed so that its text can be edited in place.

Built from ruamel.yaml's events: nothing is constructed, so no alias is expanded and no tag obeyed.
"""

from functools import cached_property
from typing import Any

from lightspeed_azure.enrichment.node import Node, Path, Unquoted, Use, is_merge
from lightspeed_azure.enrichment.yaml_faults import is_json, scrubbed, unprintable
from lightspeed_azure.errors import InvalidConfigurationError

LARGEST = 1 << 20
"""Characters: the largest configuration that a stack ships with has 12 thousand."""

_NUMERIC = frozenset("+-.0123456789")

DEEPEST = 100
"""Levels, aliases included; it keeps every later walk short of Python's own limit."""


class Document:
    """The one document of a text.

    Args:
        text: YAML or JSON.
        name: what to call it in messages.

    Raises:
        InvalidConfigurationError: it cannot be read; the text names the line, and never a value.

    Attributes:
        text: as given, but JSON indented with tabs, which YAML forbids, has spaces instead.
        root: its content.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        if len(text) > LARGEST:
            raise InvalidConfigurationError(
                f"{name}: is larger than 1 MiB, which no stack's configuration is; give that file"
            )
        if "\t" in text and text.lstrip("\ufeff \t\r\n").startswith("{") and is_json(text):
            text = text.replace("\t", "  ")  # inside JSON's strings there is none
        self.text = text
        self.root = _Builder(self).build()

    @property
    def value(self) -> Any:
        """The content as plain Python; numbers and dates are `Unquoted` text."""
        return self.root.value

    @cached_property
    def quote(self) -> str:
        """What new keys are quoted with: JSON insists on it."""
        pairs = self.root.pairs
        return pairs[0][0].node.style if self.root.flow and pairs else ""

    def error(self, line: int | None, problem: str) -> InvalidConfigurationError:
        """Return the error for a line, from 0; None when there is no line to blame."""
        where = self.name if line is None else f"{self.name}:{line + 1}"
        return InvalidConfigurationError(f"{where}: {problem}")

    def use(self, path: Path) -> Use | None:
        """Return the place of a value, by the way that aliases lead; None behind a merge key."""
        use: Use | None = Use(self.root, self.root.start, self.root.end, self.root.line, 0)
        for part in path:
            if use is None:
                return None
            if isinstance(part, int):
                use = use.node.items[part]
            else:
                pair = use.node.pair(part)
                use = pair[1] if pair else None
        return use

    def line(self, path: Path) -> int:
        """Return the line, from 0, of a key or a list's item, or of the nearest one around it."""
        node, line = self.root, self.root.line
        for part in path:
            if isinstance(part, int):
                if part >= len(node.items):
                    break
                use = node.items[part]
                line = use.line
            else:
                pair = node.pair(part)
                if pair is None:
                    break
                line, use = pair[0].line, pair[1]
            node = use.node
        return line

    @cached_property
    def newline(self) -> str:
        """How this text ends its lines."""
        return "\r\n" if "\r\n" in self.text else "\n"


class _Builder:
    """Puts the events together; what is wrong is said with its line."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._anchors: dict[str, Node] = {}
        self._open: list[Node] = []
        self._pending: list[list[Use]] = []  # for each open map or list, what it holds so far
        self._roots: list[Use] = []

    def build(self) -> Node:
        """Return the content."""
        from ruamel.yaml import YAML  # noqa: PLC0415 - 60 ms, and only needed when there is a file
        from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

        failure: InvalidConfigurationError
        try:
            for event in YAML(typ="safe", pure=True).parse(self._document.text):
                self._take(event)
        except InvalidConfigurationError:
            raise
        except MarkedYAMLError as error:
            line, problem = scrubbed(error)
            failure = self._document.error(line, problem)
        except (YAMLError, ValueError, OverflowError, AssertionError, IndexError):
            line, problem = unprintable(self._document.text)
            failure = self._document.error(line, problem)
        else:
            if self._roots:
                return self._roots[0].node
            failure = self._document.error(None, "is empty; give a stack's configuration")
        raise failure

    def _take(self, event: Any) -> None:
        name = type(event).__name__
        if name == "DocumentStartEvent" and self._roots:
            line = event.start_mark.line
            raise self._document.error(line, "a second document begins here; keep one in the file")
        if name == "AliasEvent":
            self._place(self._aliased(event))
        elif name == "ScalarEvent":
            node = _node("scalar", event)
            node.style = event.style or ""
            node.value = _scalar(event.value, quoted=bool(node.style) or node.tag)
            self._finished(node)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            self._open.append(_node("map" if name.startswith("Mapping") else "list", event))
            self._pending.append([])
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self._close(event.end_mark.index)

    def _aliased(self, event: Any) -> Use:
        mark = event.start_mark
        node = self._anchors.get(event.anchor)
        if node is None:
            text = "an alias without an anchor before it; add the anchor, or correct the name"
            raise self._document.error(mark.line, text)
        node.uses += 1
        return Use(node, mark.index, event.end_mark.index, mark.line, mark.column, event.anchor)

    def _close(self, end: int) -> None:
        node, held = self._open.pop(), self._pending.pop()
        node.end = end
        node.depth = 1 + max((use.node.depth for use in held), default=0)
        node.size = 1 + sum(use.node.size for use in held)
        if node.depth > DEEPEST or len(self._open) > DEEPEST:
            raise self._document.error(node.line, f"is nested more than {DEEPEST} levels deep")
        if node.kind == "list":
            node.items = held
            node.value = [use.node.value for use in held]
        else:
            pairs = zip(held[::2], held[1::2], strict=True)
            node.pairs = [(key, self._behind(key, value)) for key, value in pairs]
            node.value = self._mapping(node)
        self._finished(node)

    def _mapping(self, node: Node) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, use in node.pairs:
            if key.node.kind != "scalar":
                raise self._document.error(key.line, "a key must be text, not a map or a list")
            if is_merge(key):
                for part in use.node.value if use.node.kind == "list" else [use.node.value]:
                    if not isinstance(part, dict):
                        raise self._document.error(key.line, "<<: merges maps, and nothing else")
                    merged = part | merged
                continue
            name = str(key.node.value)
            if name in own:
                raise self._document.error(key.line, f"{name[:60]}: is given twice; keep one")
            own[name] = use.node.value
        return merged | own if merged else own

    def _behind(self, key: Use, value: Use) -> Use:
        """Return the place of a value; the parser puts an empty one somewhere behind comments."""
        if value.alias or value.node.kind != "scalar" or value.start != value.end:
            return value
        colon = self._document.text.find(":", key.end)
        if colon < 0 or self._document.text[key.end : colon].strip():
            return value
        return Use(value.node, colon + 1, colon + 1, key.line, key.column)

    def _finished(self, node: Node) -> None:
        if node.anchor:
            self._anchors[node.anchor] = node
        self._place(Use(node, node.start, node.end, node.line, node.column))

    def _place(self, use: Use) -> None:
        (self._pending[-1] if self._pending else self._roots).append(use)


def _node(kind: Any, event: Any) -> Node:
    mark = event.start_mark
    return Node(
        kind,
        mark.index,
        event.end_mark.index,
        mark.line,
        mark.column,
        flow=bool(getattr(event, "flow_style", False)),
        anchor=event.anchor or "",
        tag=event.tag is not None,
    )


def _scalar(text: str, *, quoted: bool) -> Any:
    """Return what a stack's own parser (YAML 1.1) makes of a scalar; numbers stay text."""
    if quoted:
        return text
    if text[:1] in _NUMERIC:
        return Unquoted(text)
    if text in ("", "~") or text.lower() == "null":
        return None
    if text.lower() in ("true", "yes", "on"):
        return True
    return False if text.lower() in ("false", "no", "off") else text
