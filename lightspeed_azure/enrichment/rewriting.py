"""Applies a plan to a document's text, so that only Azure's lines differ, and verifies the result."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lightspeed_azure.enrichment.document import (
    Document,
    Path,
    Step,
    Unquoted,
    equal_values,
    is_merge,
)
from lightspeed_azure.enrichment.plan import (
    REMOVED,
    Change,
    apply_changes,
    with_optional_references,
)
from lightspeed_azure.enrichment.providers import dotted
from lightspeed_azure.errors import InvalidConfigurationError

_ALIAS = re.compile(r"(?:[\s,:?-]|#[^\n]*)*\*[^\s,\[\]{}]+")

LONGEST = 1 << 22
"""Characters of a configuration that is written out; aliases of aliases would have no bound."""


def rewrite(document: Document, changes: Sequence[Change]) -> str:
    """Return the document's text with the changes; the rest stays as it is, to the byte.

    The result is parsed again and compared with the changes applied to the parsed document.

    Raises:
        InvalidConfigurationError: an alias, a merge key or a shared anchor is in the way.
    """
    if not changes:
        return document.text
    text = _Editor(document).edited(changes)
    try:
        after = Document(text, document.name).value
    except InvalidConfigurationError:
        after = None
    if not equal_values(after, apply_changes(document.value, changes)):
        path = changes[0].path[:-1]
        raise _refusal(document, path, "cannot be edited safely as it is written")
    return text


def to_flow_yaml(value: Any) -> str:
    """Return a value of a document as YAML on one line, with every alias expanded.

    Raises:
        InvalidConfigurationError: its aliases expand to more than any configuration holds.
    """
    budget = LONGEST

    def text_of(value: Any) -> str:
        nonlocal budget
        if isinstance(value, dict):
            pairs = (f"{json.dumps(k, ensure_ascii=False)}: {text_of(v)}" for k, v in value.items())
            text = "{" + ", ".join(pairs) + "}"
        elif isinstance(value, list):
            text = "[" + ", ".join(map(text_of, value)) + "]"
        else:
            is_raw = isinstance(value, Unquoted)
            text = str(value) if is_raw else json.dumps(value, ensure_ascii=False)
            budget -= len(text) + 2
            if budget < 0:
                raise InvalidConfigurationError("aliases of aliases expand to more than 4 MiB")
        return text

    return text_of(value)


def _braces(pairs: Mapping[str, str], quote: str) -> str:
    return "{" + ", ".join(f"{quote}{key}{quote}: {text}" for key, text in pairs.items()) + "}"


def _refusal(document: Document, path: Path, problem: str) -> InvalidConfigurationError:
    where = f"{dotted(path)}: {problem}"
    return document.error(document.line(path), f"{where}; write this provider out in full")


class _Editor:
    """Edits the text of a document in place.

    Args:
        document: the document; its own text is not changed.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._ended = document.text.endswith(("\n", "\r"))
        self._text = document.text if self._ended else document.text + document.newline
        self._edits: dict[tuple[int, int, str], None] = {}

    def edited(self, changes: Sequence[Change]) -> str:
        """Return the text with the changes."""
        maps: dict[Path, list[Change]] = defaultdict(list)
        for change in changes:
            maps[change.path[:-1]].append(change)
        for path, of_map in maps.items():
            self._edit(path, of_map)
        text = self._text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text if self._ended else text.removesuffix(self._document.newline)

    def _edit(self, path: Path, changes: Sequence[Change]) -> None:
        steps = self._document.steps(path)
        self._check(path, steps)
        pairs = {str(c.path[-1]): to_flow_yaml(c.value) for c in changes if c.value is not REMOVED}
        if len(steps) < len(path):  # the map is missing: its provider gets one
            parent = steps[-1].node
            self._add(parent, {str(path[-1]): _braces(pairs, self._document.quote or '"')}, ())
        elif steps[-1].node.id == "scalar":
            node = steps[-1].node  # its tag, such as !!null, would not fit a map
            text = _braces(pairs, self._document.quote)
            self._replace_value(steps[-1], text, start=node.start_mark.index)
        else:
            self._edit_map(path, steps[-1].node, changes)

    def _check(self, path: Path, steps: Sequence[Step]) -> None:
        """Refuse a map that is shared, or that an alias or a merge key brings or adds to."""
        for length, step in enumerate(steps, 1):
            if step.aliased:
                raise _refusal(self._document, path[:length], "is an alias")
            if self._document.is_shared(step.node):
                problem = "is shared by an alias of its anchor"
                raise _refusal(self._document, path[:length], problem)
            pairs = step.node.value if step.node.id == "mapping" else ()
            if length > len(path) - 2 and any(is_merge(key) for key, _ in pairs):
                raise _refusal(self._document, path[:length], "has a merge key (<<)")
        if len(steps) < len(path) - 1:
            raise _refusal(self._document, path, "comes from a merge key (<<)")

    def _edit_map(self, path: Path, node: Any, changes: Sequence[Change]) -> None:
        added: dict[str, str] = {}
        removed: list[str] = []
        for change in changes:
            key = str(change.path[-1])
            found = self._document.steps(change.path)[len(path) :]
            if change.value is REMOVED:
                removed.append(key)
                self._remove(node, key)
            elif not found:
                added[key] = to_flow_yaml(change.value)
            elif found[0].aliased:
                raise _refusal(self._document, change.path, "is an alias")
            elif isinstance(change.value, str):
                source = self._text[
                    self._document.content_start(found[0].node) : found[0].node.end_mark.index
                ]
                self._replace_value(found[0], with_optional_references(source))
            else:
                self._replace_value(found[0], to_flow_yaml(change.value))
        if added:
            self._add(node, added, removed)

    def _replace(self, start: int, end: int, text: str) -> None:
        self._edits[start, end, text] = None

    def _replace_value(self, step: Step, text: str, *, start: int | None = None) -> None:
        """Replace a scalar, from an offset that defaults to its content, behind anchor and tag."""
        start = self._document.content_start(step.node) if start is None else start
        end = step.node.end_mark.index
        if start == end:  # the parser places an empty value behind the comments that follow it
            start = end = self._text.index(":", step.key.end_mark.index) + 1
        gap = " " if start == end and self._text[start - 1 : start] not in (" ", "\t") else ""
        self._replace(start, end, gap + text)

    def _add(self, node: Any, pairs: Mapping[str, str], without: Sequence[str]) -> None:
        """Add keys at the end of a map, from which another edit removes the keys `without`."""
        if node.flow_style:
            kept = [key for key, _ in node.value if key.value not in without]
            self._add_in_brackets(node, pairs, is_first=not kept)
            return
        first, _ = node.value[0]
        position = self._line_end(self._tail_of(*node.value[-1]))
        lines = (f"{' ' * first.start_mark.column}{name}: {text}" for name, text in pairs.items())
        self._replace(position, position, "".join(line + self._document.newline for line in lines))

    def _add_in_brackets(self, node: Any, pairs: Mapping[str, str], *, is_first: bool) -> None:
        quote = (node.value[-1][0].style or "") if node.value else self._document.quote
        added = [f"{quote}{name}{quote}: {text}" for name, text in pairs.items()]
        if not node.value:
            position = self._text.index("{", self._document.content_start(node)) + 1
            self._replace(position, position, ", ".join(added))
            return
        key, value = node.value[-1]
        line = self._text.rfind("\n", 0, key.start_mark.index) + 1
        margin = self._text[line : key.start_mark.index]
        gap = f",{self._document.newline}{margin}" if not margin.strip() and line else ", "
        position = self._tail_of(key, value)
        self._replace(position, position, ("" if is_first else gap) + gap.join(added))

    def _remove(self, node: Any, name: str) -> None:
        """Remove a key of a map, and the comment in its line."""
        at = next(n for n, (key, _) in enumerate(node.value) if key.value == name)
        key, value = node.value[at]
        start = key.start_mark.index
        if not node.flow_style:
            line = self._text.rfind("\n", 0, start) + 1
            if not self._text[line:start].strip():
                start = line
            self._replace(start, self._line_end(self._tail_of(key, value)), "")
        elif at + 1 < len(node.value):
            self._replace(start, node.value[at + 1][0].start_mark.index, "")
        elif at:
            self._replace(self._tail_of(*node.value[at - 1]), self._tail_of(key, value), "")
        else:
            self._replace(start, self._tail_of(key, value), "")

    def _tail_of(self, key: Any, value: Any) -> int:
        return self._tail(key.end_mark.index, value)

    def _tail(self, after: int, node: Any) -> int:
        """Return the offset where a value ends; that of a block ends with its last line.

        Args:
            after: the offset behind which it is written: the end of its key or of the item before.
            node: its node; that of an alias is somewhere before `after`.
        """
        if node.start_mark.index < after:
            alias = _ALIAS.match(self._text, after)
            return alias.end() if alias else after
        if node.id == "scalar":
            end: int = node.end_mark.index
            if node.start_mark.index == end:
                return self._text.index(":", after) + 1
            return len(self._text[:end].rstrip()) if node.style in ("|", ">") else end
        if node.flow_style or not node.value:
            return int(node.end_mark.index)
        if node.id == "mapping":
            return self._tail_of(*node.value[-1])
        end = node.start_mark.index
        for item in node.value:
            end = self._tail(end, item)
        return end

    def _line_end(self, offset: int) -> int:
        """Return the offset behind the line break of the line that an offset is in."""
        found = self._text.find("\n", offset)
        return len(self._text) if found < 0 else found + 1
