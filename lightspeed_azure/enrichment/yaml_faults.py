"""What is wrong with a text that is no YAML, said without repeating any of it."""

import json
import re
from typing import Any

UNDEFINED_ALIAS = (
    "is not valid YAML: a value that begins with * stands for an anchor, and there is none before it; "
    "put the value in quotes, or add the anchor"
)


def is_json(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text.lstrip("\ufeff")), dict)
    except (ValueError, RecursionError):
        return False


def explain(error: Any) -> tuple[int | None, str]:
    """Return the line, from 0, and the problem in our own words: what the parser quotes may be secret.

    Args:
        error: a MarkedYAMLError of ruamel.yaml.
    """
    problem = str(error.problem or error.context or "cannot be parsed")
    scanning = str(error.context or "").startswith("while scanning")
    mark = (scanning and error.context_mark) or error.problem_mark or error.context_mark
    line = mark.line if mark else None
    if "undefined alias" in problem:
        return line, UNDEFINED_ALIAS
    for pattern, what, cure in _FAULTS:
        if re.search(pattern, problem):
            return line, f"is not valid YAML: {what}; {cure}"
    what = re.sub(r"['\"].{2,}['\"]|(?<=alias ).*", "…", problem, flags=re.DOTALL)
    return line, f"is not valid YAML: {what}; put values with special characters in quotes"


_FAULTS = (
    (r"character '\\t'", "a tab stands in the indentation", "indent with spaces"),
    (
        "unknown escape character|hexdecimal numbers",
        "a backslash in double quotes begins an escape",
        "write the value in single quotes, or double each backslash",
    ),
    (
        "cannot start any token|expected alphabetic or numeric character",
        "a value begins with a special character",
        "put the value in quotes",
    ),
    (
        "mapping values are not allowed",
        "a colon where none can be",
        "put a value that holds ': ' in quotes, or give the key the indentation of its neighbours",
    ),
    (
        "sequence entries are not allowed",
        "a list begins on the line of its key",
        "begin it on the next line",
    ),
    ("unexpected end of stream", "a quotation mark is not closed", "close it"),
    (
        r"expected ',' or '[\]}]'",
        "a bracket is not closed, or a comma is missing",
        "close it, or put the value in quotes",
    ),
    (
        "could not find expected ':'",
        "a line holds no key",
        "write it as key: value, or put the value above in quotes",
    ),
    (
        "expected <block end>, but found '<scalar>'",
        "text stands behind a quoted value",
        "put the whole value in quotes",
    ),
    (
        "expected <block end>",
        "the indentation differs from that of the lines above",
        "give all keys of one map the same indentation",
    ),
    (
        "chomping or indentation indicators",
        "text stands behind | or >",
        "begin it on the next line",
    ),
    (
        "expected the node content",
        "the file is a template",
        "render it first, or put the value in quotes",
    ),
    ("found another document", "a second document begins here", "keep one in the file"),
    ("for merging", "<<: merges maps, and nothing else", "give it a map or an alias of one"),
    ("incompatible YAML document", "its version is not 1", "remove the %YAML line"),
)
"""Pattern in ruamel.yaml's words, what it means, and the cure; the first that fits counts."""


def find_control_character(text: str) -> tuple[int | None, str]:
    """Return the line of a character that YAML forbids, if that is what is wrong."""
    for number, line in enumerate(text.split("\n")):
        if any(ord(sign) < 32 and sign not in "\t\r" for sign in line) or "\x7f" in line:
            return number, "a control character, which YAML forbids; remove it"
    return None, "is not valid YAML; check its encoding"
