"""Carries a plan out on a document's text, so that nothing but Azure's lines differ, and proves it."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lightspeed_azure.enrichment.document import Document
from lightspeed_azure.enrichment.edits import Edits
from lightspeed_azure.enrichment.node import Path, Unquoted, Use, same
from lightspeed_azure.enrichment.plan import REMOVED, Change, carried_out, without_demands
from lightspeed_azure.enrichment.providers import dotted
from lightspeed_azure.errors import InvalidConfigurationError

LARGEST_COPY = 10_000
"""Values of a map that is written out because aliases cannot say what is needed."""

NULL = "null"


def rewritten(document: Document, changes: Sequence[Change]) -> str:
    """Return the document's text with the changes, and proves that it says what was meant.

    Raises:
        InvalidConfigurationError: the text is written in a way that cannot be edited safely.
    """
    if not changes:
        return document.text
    rewriter = _Rewriter(document, changes)
    text = rewriter.text()
    expected = carried_out(document.value, changes)
    expected = carried_out(expected, rewriter.nulled)
    if not _says(text, document.name, expected):
        raise rewriter.refusal(changes[0].path)
    return text


def _says(text: str, name: str, expected: object) -> bool:
    """Return whether a text means what is expected, and nothing else."""
    try:
        return same(Document(text, name).value, expected)
    except InvalidConfigurationError:
        return False


class _Rewriter:
    """Decides for each map that changes how its text can be edited."""

    def __init__(self, document: Document, changes: Sequence[Change]) -> None:
        self._document = document
        self._edits = Edits(document)
        self._changes = changes
        self._maps: dict[Path, list[Change]] = defaultdict(list)
        for change in changes:
            self._maps[change.path[:-1]].append(change)
        self.nulled: list[Change] = []

    def text(self) -> str:
        """Return the edited text."""
        for path, changes in self._maps.items():
            use = self._document.use(path)
            if use is None or self._is_foreign(path[:-1]):
                self._write_out(path)
            elif use.node.kind == "scalar":
                self._edits.replace_value(use, _braces(self._pairs(changes), self._document.quote))
            elif not self._is_foreign(path):
                self._edit(use, changes)
            elif use.alias:
                self._edits.replace_value(use, _merged(use.alias, self._pairs(changes)))
            else:
                self._edits.wrap(use, self._pairs(changes))
        return self._edits.result()

    def refusal(self, path: Path) -> InvalidConfigurationError:
        """Return the error for a text that cannot be edited."""
        return self._document.error(
            self._document.line(path),
            f"{dotted(path)}: anchors, tags or explicit keys around it make an edit unsafe; "
            "write this provider without them",
        )

    def _edit(self, use: Use, changes: Sequence[Change]) -> None:
        """Edit a map where it stands."""
        added: list[Change] = []
        removed: list[str] = []
        for change in changes:
            key = str(change.path[-1])
            pair = use.node.pair(key)
            if pair is None:
                added.append(change)
            elif change.value is not REMOVED:
                self._edits.replace_value(pair[1], self._value(pair[1], change.value))
            elif any(value.node.value and key in value.node.value for value in _merges(use)):
                self._edits.replace_value(pair[1], NULL)
                self._null(change)
            else:
                removed.append(key)
                self._edits.remove(use.node, key)
        if added:
            self._edits.add(use.node, self._pairs(added), without=removed)

    def _write_out(self, path: Path) -> None:
        """Give an entry a map of its own, where it had none or only another's through an alias."""
        parent = self._document.use(path[:-1])
        node = None if parent is None else parent.node
        if parent is None or node is None or node.size > LARGEST_COPY:
            raise self.refusal(path)
        after: Any = carried_out(self._document.value, self._changes)
        for part in path:
            after = after[part]
        written = {str(path[-1]): _written(after)}
        if not self._is_foreign(path[:-1]):
            self._edits.add(node, written)
        elif parent.alias:
            self._edits.replace_value(parent, _merged(parent.alias, written))
        else:
            raise self.refusal(path)

    def _is_foreign(self, path: Path) -> bool:
        """Return whether an entry is also used where nothing may change."""
        use = self._document.use(path)
        if use is None or use.node.uses == 1:
            return False
        return len(self._planned(use, len(path))) < use.node.uses

    def _planned(self, use: Use, depth: int) -> set[int]:
        """Return the places at which a node is used and is meant to change."""
        found = (self._document.use(path[:depth]) for path in self._maps if len(path) >= depth)
        return {other.start for other in found if other and other.node is use.node}

    def _pairs(self, changes: Sequence[Change]) -> dict[str, str]:
        pairs = {}
        for change in changes:
            if change.value is REMOVED:
                self._null(change)
            pairs[str(change.path[-1])] = (
                NULL if change.value is REMOVED else _written(change.value)
            )
        return pairs

    def _null(self, change: Change) -> None:
        """Note that a key cannot be removed, for it comes from elsewhere, but can be emptied."""
        self.nulled.append(Change(change.path, None, change.why))

    def _value(self, use: Use, value: object) -> str:
        """Return a value as text, in the quotes that stand there now."""
        if isinstance(value, str) and not use.alias:
            return without_demands(self._edits.source(use))
        return _written(value)


def _merges(use: Use) -> list[Use]:
    return [value for key, value in use.node.pairs if key.node.value == "<<"]


def _merged(alias: str, pairs: Mapping[str, str]) -> str:
    return "{<<: *" + alias + " , " + ", ".join(f"{k}: {v}" for k, v in pairs.items()) + "}"


def _braces(pairs: Mapping[str, str], quote: str = "") -> str:
    return "{" + ", ".join(f"{quote}{key}{quote}: {value}" for key, value in pairs.items()) + "}"


def _written(value: Any) -> str:
    """Return a value as YAML that fits into brackets."""
    if isinstance(value, dict):
        return _braces({json.dumps(k, ensure_ascii=False): _written(v) for k, v in value.items()})
    if isinstance(value, list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, Unquoted):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
