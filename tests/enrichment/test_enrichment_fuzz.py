"""Whatever YAML comes: a correct result, or one clear error with line and key, and no output."""

import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightspeed_azure import InvalidConfigurationError, enrich_azure_entra_id_inference
from lightspeed_azure.cli import main
from lightspeed_azure.enrichment import enrich_text

NAMES = st.sampled_from(
    ["a", "azure", "config", "api_key", "model_validation", "base_url", "ü", "<<"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 99),
    st.sampled_from(
        ["", "x", "${env.AZURE_API_KEY}", "${env.K:=}", "${env.K:+azure}", "sk # no comment", "a: b",
         "- x", "{", "\ttab", "two\nlines\n", "remote::azure", "null", "yes", "1.5", "2026-01-01", "é"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.one_of(VALUES, st.dictionaries(NAMES.filter(lambda n: n != "<<"), SCALARS, max_size=5))
PROVIDERS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {
            "provider_id": SCALARS,
            "provider_type": st.sampled_from(
                ["remote::azure", "${env.A:+remote::azure}", "remote::openai", None, 3]
            ),
        },
        optional={"config": CONFIGS, "a": VALUES},
    ),
)
STACKS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"version": st.just(2)},
        optional={
            "providers": st.one_of(
                VALUES,
                st.fixed_dictionaries(
                    {"inference": st.lists(PROVIDERS, max_size=4)}, optional={"safety": VALUES}
                ),
            ),
            "registered_resources": VALUES,
            "server": VALUES,
        },
    ),
)


class Dumper(yaml.SafeDumper):
    """Writes what two places share as an anchor and an alias, as people do."""


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return YAML in one of many ways to write it."""
    tree = draw(STACKS)
    if draw(st.booleans()) and isinstance(tree, dict):
        share(draw, tree)
    text = yaml.dump(
        tree,
        Dumper=Dumper,
        default_flow_style=draw(st.sampled_from([None, True, False])),
        default_style=draw(st.sampled_from([None, None, '"', "'"])),
        indent=draw(st.sampled_from([2, 4])),
        width=draw(st.sampled_from([20, 1000])),
        allow_unicode=draw(st.booleans()),
        explicit_start=draw(st.booleans()),
        sort_keys=False,
    )
    if draw(st.booleans()):
        text = comment(draw, text)
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return ("\ufeff" if draw(st.booleans()) else "") + text


def share(draw: st.DrawFn, tree: dict[str, Any]) -> None:
    """Let two providers have one `config`, which becomes an anchor."""
    providers = tree.get("providers")
    inference = providers.get("inference") if isinstance(providers, dict) else None
    entries = [entry for entry in inference or () if isinstance(entry, dict)]
    if len(entries) > 1:
        entries[1]["config"] = entries[0].setdefault("config", {"base_url": "x"})


def comment(draw: st.DrawFn, text: str) -> str:
    """Put comments and blank lines where they mean nothing."""
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines)))
    return "".join(lines[:at]) + "# a comment\n\n" + "".join(lines[at:])


def enrich(text: str, folder: Path, *options: str) -> tuple[Result, Path, Path]:
    """Run the command on a text; the output is there already."""
    source, output = folder / "in.yaml", folder / "out.yaml"
    source.write_bytes(text.encode("utf-8", "surrogatepass"))
    output.write_text("untouched")
    arguments = ["enrich", str(source), "-o", str(output), *options]
    return CliRunner().invoke(main, arguments), source, output


def check_refusal(result: Result, source: Path, output: Path) -> None:
    """Check that there is one clear message, and nothing was written."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert output.read_text() == "untouched"
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert re.match(rf"lightspeed-azure: {re.escape(str(source))}(:\d+)?: \S", result.stderr)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts())
def test_any_configuration_is_enriched_or_refused(text: str, tmp_path: Path) -> None:
    """The result says what the dict function makes of the same data, to a parser that is not ours."""
    result, source, output = enrich(text, tmp_path, "--no-repair")
    if result.exit_code == 2:
        check_refusal(result, source, output)
        return
    assert result.exit_code == 0, result.output
    try:
        expected = yaml.safe_load(io.StringIO(text.removeprefix("\ufeff")))
    except yaml.YAMLError:
        return  # YAML 1.1 is narrower; a stack would not read this file either
    unshared = copy_of(expected)
    enrich_azure_entra_id_inference(unshared, {})
    assert yaml.safe_load(output.read_bytes().decode("utf-8-sig")) == unshared
    again, _, _ = enrich(output.read_bytes().decode(), tmp_path, "--no-repair")
    assert again.exit_code == 0
    assert "✓" not in again.stderr


@settings(max_examples=200, deadline=None)
@given(text=texts())
def test_any_configuration_is_enriched_with_its_aliases_expanded(text: str) -> None:
    """The content is what the dict function makes of it; only a shape that is wrong is refused."""
    try:
        expected = copy_of(yaml.safe_load(io.StringIO(text.removeprefix("\ufeff"))))
        enrich_azure_entra_id_inference(expected, {})
        outcome = enrich_text(text, "run.yaml", [None], repair=False, expand_aliases=True)
    except (yaml.YAMLError, InvalidConfigurationError):
        return
    assert names_as_text(yaml.safe_load(outcome.after)) == names_as_text(expected)


def names_as_text(tree: Any) -> Any:
    """Return a copy whose keys are text: the expanded form quotes every key."""
    if isinstance(tree, dict):
        return {str(key): names_as_text(value) for key, value in tree.items()}
    return [names_as_text(item) for item in tree] if isinstance(tree, list) else tree


def copy_of(tree: Any) -> Any:
    """Return a copy in which nothing is shared."""
    if isinstance(tree, dict):
        return {key: copy_of(value) for key, value in tree.items()}
    return [copy_of(item) for item in tree] if isinstance(tree, list) else copy.copy(tree)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts(), cuts=st.lists(st.tuples(st.integers(0, 400), st.sampled_from(
    ["", "\t", "{", "}", "[", ":", "\n---\n", "&a ", "*a", "'", '"', "\x00", "  ", "- ", "!x ", "? "]
)), min_size=1, max_size=4))  # fmt: skip
def test_any_damage_is_survived(text: str, cuts: list[tuple[int, str]], tmp_path: Path) -> None:
    """A file with characters put in or cut off is a result or a refusal, never a traceback."""
    for at, piece in cuts:
        text = text[:at] + piece + text[at + (not piece) :]
    result, source, output = enrich(text, tmp_path, "--drop-api-key")
    if result.exit_code:
        check_refusal(result, source, output)
    else:
        assert result.exception is None


HEAD = "providers:\n  inference:\n  - provider_id: azure\n    provider_type: remote::azure\n"
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- x\n", ":1: is not a map"),
        ("providers: [x]\n", ":1: providers: is not a map"),
        ("providers:\n  inference: {a: b}\n", ":2: providers.inference: is not a list"),
        ("providers:\n  inference:\n  - x\n", ":3: providers.inference[0]: is not a provider"),
        (HEAD + "    config: [x]\n", ":5: providers.inference[0].config: is not a map"),
        *(
            (HEAD + f"    config: {empty}\n", ":5: providers.inference[0].config: is not a map")
            for empty in ("[]", "''", "0", "false")
        ),
        (HEAD + "    provider_id: b\n", ":5: provider_id: is given twice"),
        (HEAD + "    config:\n\t  a: 1\n", ":6: is not valid YAML"),
        ("a: 1\n---\nb: 2\n", ":2: is not valid YAML: a second document begins here"),
        ("a: *b\n", ":1: is not valid YAML: a value that begins with * stands for an anchor"),
        ("a: &a [*a]\n", ":1: is not valid YAML: a value that begins with * stands for an anchor"),
        ("? [a]\n: b\n", ":1: a key must be text"),
        ("a: \x01\n", ":1: "),
        ("a: 'sk-secret\n", ":1: is not valid YAML"),
        ("a" * (1 << 20) + ": b\n", "is larger than 1 MiB"),
        ("x: " + "[" * 300 + "]" * 300 + "\n", "is nested more than 100 levels deep"),
        (BOMB + "b0: &b0 {a: 1}\n" + "".join(f"b{n}: &b{n} {{<<: *b{n - 1}, k{n}: [*b{n - 1}]}}\n" for n in range(1, 200)),
         "nested more than 100"),
    ],
)  # fmt: skip
def test_bad_input_is_said_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    """One message with file, line and key; exit code 2; the output stays as it was."""
    result, source, output = enrich(text, tmp_path)
    check_refusal(result, source, output)
    assert words in result.stderr
    assert "sk-secret" not in result.stderr


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Another encoding is refused with the line."""
    source = tmp_path / "in.yaml"
    source.write_bytes(b"a: 1\nb: \xff\n")
    result = CliRunner().invoke(main, ["enrich", str(source)])
    assert result.exit_code == 2
    assert f"{source}:2: is not text in UTF-8" in result.stderr


@pytest.mark.timeout(20)
def test_aliases_that_explode_do_not(tmp_path: Path) -> None:
    """Thirty levels of nine aliases are 9^30 values when expanded; nothing expands them."""
    text = BOMB + HEAD + "    config: {a: *a29}\n"
    result, _, output = enrich(text, tmp_path)
    assert result.exit_code == 0, result.output
    assert output.read_text() == text.replace("*a29}", "*a29, model_validation: false}")


@pytest.mark.timeout(60)
def test_a_large_file_is_edited(tmp_path: Path) -> None:
    """Almost a mebibyte of comments and models is no problem."""
    models = "".join(
        f"  - {{model_id: m{n}, provider_id: azure}} # {'x' * 60}\n" for n in range(8000)
    )
    text = HEAD + "registered_resources:\n  models:\n" + models
    result, _, output = enrich(text, tmp_path)
    assert result.exit_code == 0
    assert output.read_text() == text.replace(
        "remote::azure\n", 'remote::azure\n    config: {"model_validation": false}\n'
    )
