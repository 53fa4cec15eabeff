"""What changes between two texts, to look at: no secret of theirs is shown."""

import difflib
import re
from collections.abc import Iterator

_KEY = re.compile(
    r"""(?P<key>["']?[\w.-]*(?:key|secret|token|password|passwd|credential)[\w.-]*["']?\s*:\s+)
        (?P<value>\S.*)""",
    re.IGNORECASE | re.VERBOSE,
)
_DEFAULT = re.compile(r"(\$\{env\.[A-Z0-9_]*(?:KEY|SECRET|TOKEN|PASSWORD)[A-Z0-9_]*:=)[^}]+")
_HARMLESS = re.compile(
    r"""["']?\$\{env\.[^}]*\}["']?|true|false|null|~|\d+|\{\}|\[\]""", re.IGNORECASE
)

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def difference(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a unified difference, each with its colour or "" for none."""
    lines = difflib.unified_diff(
        list(masked(before)), list(masked(after)), "before", "after", lineterm=""
    )
    for line in lines:
        yield _COLOURS.get(line[:1], ""), line


def masked(text: str) -> Iterator[str]:
    """Yield the lines of some YAML with stars for secrets, to the end of the line and beyond.

    `${env.NAME}` is no secret, its default is.
    """
    margin: int | None = None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if margin is not None and indent > margin and line.strip():
            yield f"{line[:indent]}****"  # a secret goes on over several lines
            continue
        if not line.strip():
            yield line
            continue
        shown = _KEY.sub(_stars, _DEFAULT.sub(r"\1****", line))
        margin = indent if shown.endswith(": ****") else None
        yield shown


def _stars(match: re.Match[str]) -> str:
    harmless = _HARMLESS.match(match["value"])
    rest = match["value"][harmless.end() :] if harmless else ""
    if harmless and (not rest or rest[0] in " ,}]"):
        return match["key"] + harmless[0] + _KEY.sub(_stars, rest)
    return f"{match['key']}****"
