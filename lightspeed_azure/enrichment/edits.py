"""Edits of a YAML text, in place: what is not edited stays as it is, to the byte."""

import re
from collections.abc import Iterable, Mapping

from lightspeed_azure.enrichment.document import Document
from lightspeed_azure.enrichment.node import Node, Use

INDENT = 2
"""Spaces by which what is newly nested is indented."""


class Edits:
    """A set of edits of one document; two equal ones count once.

    Args:
        document: the document; its text is not changed.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._ended = document.text.endswith(("\n", "\r"))
        self._text = document.text if self._ended else document.text + document.newline
        self._edits: dict[tuple[int, int, str], None] = {}

    def replace(self, start: int, end: int, text: str) -> None:
        """Put a text in the place of what stands between two offsets."""
        self._edits[start, end, text] = None

    def result(self) -> str:
        """Return the edited text."""
        text = self._text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text if self._ended else text.removesuffix(self._document.newline)

    def source(self, use: Use) -> str:
        """Return a value as it is written, without anchor and tag."""
        return self._text[self._content(use) : use.end]

    def replace_value(self, use: Use, text: str) -> None:
        """Put another value in the place of a scalar, an alias, or one in brackets."""
        start = self._content(use)
        gap = " " if start == use.end and self._text[start - 1 : start] not in (" ", "\t") else ""
        self.replace(start, use.end, gap + text)

    def add(self, node: Node, pairs: Mapping[str, str], without: Iterable[str] = ()) -> None:
        """Add keys at the end of a map.

        Args:
            node: the map.
            pairs: the keys, and their values as YAML that fits into brackets.
            without: keys that another edit removes.
        """
        gone = set(without)
        kept = [pair for pair in node.pairs if str(pair[0].node.value) not in gone]
        if node.flow:
            self._add_in_brackets(node, pairs, is_first=not kept)
            return
        key, _ = node.pairs[0]
        position = self._line_end(self._tail(node.pairs[-1][1]))
        lines = (f"{' ' * key.column}{name}: {value}" for name, value in pairs.items())
        self.replace(position, position, "".join(line + self._document.newline for line in lines))

    def remove(self, node: Node, name: str) -> None:
        """Remove a key of a map, and the comment in its line."""
        at = next(n for n, (key, _) in enumerate(node.pairs) if key.node.value == name)
        key, value = node.pairs[at]
        if not node.flow:
            start = self._text.rfind("\n", 0, key.start) + 1
            if self._text[start : key.start].strip():
                start = key.start
            self.replace(start, self._line_end(self._tail(value)), "")
        elif at + 1 < len(node.pairs):
            self.replace(key.start, node.pairs[at + 1][0].start, "")
        elif at:
            self.replace(self._tail(node.pairs[at - 1][1]), value.end, "")
        else:
            self.replace(key.start, value.end, "")

    def wrap(self, use: Use, pairs: Mapping[str, str]) -> None:
        """Keep an anchored map as it is, under a merge key, and add keys beside it.

        `config: &a {x: 1}` becomes `config: {<<: &a {x: 1}, key: value}`.
        """
        node = use.node
        if node.flow:
            self.replace(use.start, use.start, "{<<: ")
            ending = "".join(f", {name}: {value}" for name, value in pairs.items())
            self.replace(use.end, use.end, ending + "}")
            return
        newline = self._document.newline
        column = node.pairs[0][0].column
        before = len(self._text[: use.start].rstrip(" "))
        self.replace(before, use.start, f"{newline}{' ' * column}<<: ")
        end = self._line_end(self._tail(node.pairs[-1][1]))
        position = self._line_end(use.start)
        while position < end:
            if self._text[position : self._line_end(position)].strip():
                self.replace(position, position, " " * INDENT)
            position = self._line_end(position)
        lines = (f"{' ' * column}{name}: {value}{newline}" for name, value in pairs.items())
        self.replace(end, end, "".join(lines))

    def _add_in_brackets(self, node: Node, pairs: Mapping[str, str], *, is_first: bool) -> None:
        if not node.pairs:
            position = self._text.index("{", self._content_of(node)) + 1
            quote = self._document.quote
            added = [f"{quote}{name}{quote}: {text}" for name, text in pairs.items()]
            self.replace(position, position, ", ".join(added))
            return
        key, value = node.pairs[-1]
        quote = key.node.style
        line = self._text.rfind("\n", 0, key.start) + 1
        margin = self._text[line : key.start]
        gap = f",{self._document.newline}{margin}" if not margin.strip() and line else ", "
        added = [f"{quote}{name}{quote}: {text}" for name, text in pairs.items()]
        position = self._tail(value)
        self.replace(position, position, ("" if is_first else gap) + gap.join(added))

    def _content(self, use: Use) -> int:
        is_bare = use.alias or not (use.node.anchor or use.node.tag)
        return use.start if is_bare else self._content_of(use.node)

    def _content_of(self, node: Node) -> int:
        """Return where a node begins, behind its anchor and its tag."""
        if not node.anchor and not node.tag:
            return node.start
        match = re.compile(r"(?:[&!]\S*\s*)*").match(self._text, node.start)
        return min(match.end() if match else node.start, max(node.end, node.start))

    def _tail(self, use: Use) -> int:
        """Return where a value really ends: that of a block, with its last line."""
        while not use.alias and not use.node.flow:
            held = use.node.items or [value for _, value in use.node.pairs]
            if not held:
                break
            use = held[-1]
        if not use.alias and use.node.style in ("|", ">"):
            return len(self._text[: use.end].rstrip())
        return use.end

    def _line_end(self, offset: int) -> int:
        """Return the offset behind the line break of the line that an offset is in."""
        found = self._text.find("\n", offset)
        return len(self._text) if found < 0 else found + 1
