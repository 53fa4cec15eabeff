"""What is wrong with a text that is no YAML, said without repeating any of it."""

import json
import re
from typing import Any

UNDEFINED_ALIAS = "an alias without an anchor before it; add the anchor, or correct the name"


def is_json(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text.lstrip("\ufeff")), dict)
    except (ValueError, RecursionError):
        return False


def scrubbed(error: Any) -> tuple[int | None, str]:
    """Return the line and the problem, without what the parser quotes: it may be a secret."""
    problem = str(error.problem or error.context or "cannot be parsed")
    if "undefined alias" in problem:
        return error.problem_mark.line, UNDEFINED_ALIAS
    if "another document" in problem:
        return error.problem_mark.line, "a second document begins here; keep one in the file"
    what = re.sub(r"['\"].{2,}['\"]|(?<=alias ).*", "…", problem, flags=re.DOTALL)
    scanning = str(error.context or "").startswith("while scanning")
    mark = (scanning and error.context_mark) or error.problem_mark or error.context_mark
    cure = "put values with special characters in quotes, and indent with spaces"
    return (mark.line if mark else None), f"is not valid YAML: {what}; {cure}"


def unprintable(text: str) -> tuple[int | None, str]:
    """Return the line of a character that YAML forbids, if that is what is wrong."""
    for number, line in enumerate(text.split("\n")):
        if any(ord(sign) < 32 and sign not in "\t\r" for sign in line) or "\x7f" in line:
            return number, "a control character, which YAML forbids; remove it"
    return None, "is not valid YAML; check its encoding"
