"""Each error of YAML has the cure that helps, in both of our files, without a word out of them."""

from pathlib import Path

import pytest

from lightspeed_azure.config import load_configuration
from lightspeed_azure.enrichment import enrich_text
from lightspeed_azure.errors import InvalidConfigurationError

SECRET = "s3cret-canary"
ESCAPE = (
    "a backslash in double quotes begins an escape; write the value in single quotes, or double "
    "each backslash"
)
SPECIAL = "a value begins with a special character; put the value in quotes"
COLON = (
    "a colon where none can be; put a value that holds ': ' in quotes, or give the key the "
    "indentation of its neighbours"
)
INDENT = (
    "the indentation differs from that of the lines above; give all keys of one map the same "
    "indentation"
)

FAULTS = [
    (f"a:\n\tb: {SECRET}\n", 2, "a tab stands in the indentation; indent with spaces"),
    (f"a:\t\n  b: {SECRET}\n", 1, "a tab stands in the indentation; indent with spaces"),
    (f'a: "C:\\{SECRET}"\n', 1, ESCAPE),
    (f'a: "C:\\xyz{SECRET}"\n', 1, ESCAPE),
    (f'a: "C:\\users{SECRET}"\n', 1, ESCAPE),
    (f"a: @{SECRET}\n", 1, SPECIAL),
    (f"a: `{SECRET}\n", 1, SPECIAL),
    (f"a: %{SECRET}\n", 1, SPECIAL),
    (f"a: * {SECRET}\n", 1, SPECIAL),
    (f"a: pass: {SECRET}\n", 1, COLON),
    (f"a: 1\n  b: {SECRET}\n", 2, COLON),
    (f"a: '{SECRET}\n", 1, "a quotation mark is not closed; close it"),
    (f'a: "{SECRET}\n', 1, "a quotation mark is not closed; close it"),
    (f"a: 'b' {SECRET}\n", 1, "text stands behind a quoted value; put the whole value in quotes"),
    (
        f"a: [{SECRET}\n",
        2,
        "a bracket is not closed, or a comma is missing; close it, or put the value in quotes",
    ),
    (
        f"a: {{b: {SECRET}\n",
        2,
        "a bracket is not closed, or a comma is missing; close it, or put the value in quotes",
    ),
    (f"a:\n  b: c\n d: {SECRET}\n", 3, INDENT),
    (
        f"a: 1\n{SECRET}\nc: d\n",
        2,
        "a line holds no key; write it as key: value, or put the value above in quotes",
    ),
    (f"a: - {SECRET}\n", 1, "a list begins on the line of its key; begin it on the next line"),
    (f"a: |{SECRET}\n  b\n", 1, "text stands behind | or >; begin it on the next line"),
    (
        f"{{{{- if x }}}}\na: {SECRET}\n",
        1,
        "the file is a template; render it first, or put the value in quotes",
    ),
    (f"%YAML 3.0\n---\na: {SECRET}\n", 1, "its version is not 1; remove the %YAML line"),
]


@pytest.mark.parametrize(("text", "line", "said"), FAULTS)
def test_the_cure_fits_the_error(tmp_path: Path, text: str, line: int, said: str) -> None:
    """lightspeed-stack.yaml and run.yaml are read by different parsers, and say the same."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfigurationError) as ours:
        load_configuration(file, environ={})
    assert str(ours.value) == f"{file}:{line}: is not valid YAML: {said}"
    with pytest.raises(InvalidConfigurationError) as theirs:
        enrich_text(text, "run.yaml", [None])
    assert str(theirs.value) == f"run.yaml:{line}: is not valid YAML: {said}"


def test_a_control_character_has_its_line(tmp_path: Path) -> None:
    """Neither parser can say where it is."""
    text = f"a: b\nc: \x01{SECRET}\n"
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(text)
    said = "2: a control character, which YAML forbids; remove it"
    with pytest.raises(InvalidConfigurationError) as ours:
        load_configuration(file, environ={})
    assert str(ours.value) == f"{file}:{said}"
    with pytest.raises(InvalidConfigurationError) as theirs:
        enrich_text(text, "run.yaml", [None])
    assert str(theirs.value) == f"run.yaml:{said}"


@pytest.mark.parametrize("text", ["a: 'C:\\secrets\\x'\n", 'a: "C:\\\\secrets\\\\x"\n'])
def test_the_cure_for_backslashes_works(tmp_path: Path, text: str) -> None:
    """What the message tells to write can be read."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(text)
    assert load_configuration(file, environ={}).llama_stack is None
