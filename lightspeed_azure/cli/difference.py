"""What changes between two texts, to look at: no secret of theirs is shown."""

import difflib
import re
from collections.abc import Iterator

_SECRET = re.compile(
    r"""(?P<key>["']?[\w.-]*(?:key|secret|token|password|passwd|credential)[\w.-]*["']?\s*:\s+
        |\$\{env\.[A-Z0-9_]*(?:KEY|SECRET|TOKEN|PASSWORD)[A-Z0-9_]*:=)
        (?P<value>[^\s#{}\[\],][^#,}]*)""",
    re.IGNORECASE | re.VERBOSE,
)

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def difference(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a unified difference, each with its colour or "" for none."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "before", "after", lineterm=""
    )
    for line in lines:
        yield _COLOURS.get(line[:1], ""), masked(line)


def masked(line: str) -> str:
    """Return a line of YAML whose secrets are stars; `${env.…}` is none."""
    return _SECRET.sub(_stars, line)


def _stars(match: re.Match[str]) -> str:
    value = match["value"]
    is_reference = value.lstrip("\"'").startswith("${env.")
    is_plain = value.strip().lower() in ("true", "false", "null", "~") or value.strip().isdigit()
    return match[0] if is_reference or is_plain else f"{match['key']}****"
