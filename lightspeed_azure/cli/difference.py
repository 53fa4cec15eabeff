"""A difference between two stack configurations that shows no secret of either."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from lightspeed_azure.enrichment.document import Document
from lightspeed_azure.enrichment.providers import AZURE_PROVIDER_TYPE, DISABLED
from lightspeed_azure.enrichment.references import REFERENCE

MASK = "****"

_HARMLESS = frozenset(
    [
        *("", "~", "null", "true", "false", "yes", "no", "on", "off", "{}", "[]", "<<"),
        *(AZURE_PROVIDER_TYPE, DISABLED, "azure", "llm", "embedding", *"0123456789"),
        *("version", "image_name", "apis", "storage", "server", "models", "shields", "safety"),
        *("providers", "inference", "provider_id", "provider_type", "config", "telemetry"),
        *("api_base", "api_key", "api_type", "api_version", "base_url", "model_validation"),
        *(
            "allowed_models",
            "refresh_models",
            "registered_resources",
            "tool_groups",
            "tool_runtime",
        ),
        *("agents", "batches", "files", "vector_io", "vector_stores", "vector_dbs", "eval"),
        *("model_id", "model_type", "provider_model_id", "metadata", "conversations", "responses"),
    ]
)
"""Scalars that are shown, in either place: words of a stack's configuration that hold no secret."""

_BETWEEN = re.compile(r"#[^\r\n]*|[&!%*][^\s,\[\]{}]*|[^\s\ufeff:,?\[\]{}-]+")
"""What can stand between scalars beside structure: comments, anchors, aliases, tags, directives."""

_SIGNS = {"#": "# ", "&": "&", "!": "!", "%": "%", "*": "*"}

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def difference(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a unified difference, each with its colour or "" for none.

    Raises:
        InvalidConfigurationError: one of the texts is not YAML.
    """
    lines = difflib.unified_diff(
        masked(before).splitlines(),
        masked(after).splitlines(),
        "before",
        "after",
        lineterm="",
    )
    for line in lines:
        yield _COLOURS.get(line[:1], ""), line


def masked(text: str) -> str:
    """Return a stack's configuration with stars in place of everything that may be a secret.

    Only the structure, the words in `_HARMLESS` and the names in `${env.NAME}` are shown. Other
    keys and values, comments, and the names of anchors are masked. The lines keep their places.

    Raises:
        InvalidConfigurationError: the text is not YAML.
    """
    document = Document(text, "the configuration")
    shown, end = "", 0
    for start, stop in sorted(_scalars(document)):
        shown += _structure(document.text[end:start]) + _scalar(document.text[start:stop])
        end = stop
    return shown + _structure(document.text[end:])


def _scalars(document: Document) -> Iterator[tuple[int, int]]:
    """Yield where each scalar begins and ends, once; an alias is none."""
    seen: set[int] = set()
    pending: list[Any] = [document.root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id == "scalar":
            start = document.content_start(node)
            if start < node.end_mark.index:
                yield start, node.end_mark.index
        elif node.id == "sequence":
            pending += node.value
        else:
            pending += [each for pair in node.value for each in pair]


def _structure(text: str) -> str:
    """Return what stands between scalars without comments and the names of anchors."""
    return _BETWEEN.sub(lambda match: _SIGNS.get(match[0][0], "") + MASK, text)


def _scalar(text: str) -> str:
    word = text[1:-1] if text[:1] in ("'", '"') and text[-1:] == text[:1] else text
    if word.lower() in _HARMLESS:
        return text
    if "\n" in text or "\r" in text:
        return re.sub(r"\S[^\r\n]*", MASK, text)
    quote = text[0] if word != text else ""
    return quote + "".join(_parts(word)) + quote


def _parts(word: str) -> Iterator[str]:
    """Yield the references of a scalar with their defaults masked, and stars for the rest."""
    end = 0
    for match in REFERENCE.finditer(word):
        if match.start() > end:
            yield MASK
        operand = match[3] or ""
        operand = operand if operand in _HARMLESS else MASK
        yield f"${{env.{match[1]}{f':{match[2]}{operand}' if match[2] else ''}}}"
        end = match.end()
    if end < len(word):
        yield MASK
