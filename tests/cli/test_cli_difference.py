"""`enrich --dry-run` shows the change, and no secret, wherever in the file one stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightspeed_azure.cli import main
from lightspeed_azure.cli.difference import masked

CANARY = "cAn4ry"

SECRETS = st.sampled_from(
    [
        f"sk-{CANARY}", f"Authorization: Bearer {CANARY}", f"https://user:{CANARY}@host/v1",
        f"${{env.KEY:={CANARY}}}", f"${{env.KEY:+{CANARY}}}", f"${{env.KEY:{CANARY}}}", f"${{env.{CANARY}",
        f"a {CANARY} # b", f"# {CANARY}", f"two\nlines of {CANARY}\n", f'"{CANARY}', f"'{CANARY}: x",
        f"&{CANARY} x", f"[{CANARY}", f"remote::{CANARY}", f"{CANARY}\té", f"false {CANARY}",
    ]
)  # fmt: skip
KEYS = (
    st.sampled_from(["api_key", "base_url", "provider_id", "provider_type", "a", CANARY]) | SECRETS
)
VALUES = st.recursive(
    st.one_of(SECRETS, st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
PROVIDERS = st.fixed_dictionaries(
    {
        "provider_id": SECRETS | st.just("azure"),
        "provider_type": SECRETS | st.just("remote::azure"),
        "config": st.dictionaries(KEYS, VALUES, max_size=4),
    },
    optional={CANARY: VALUES},
)
STACKS = st.fixed_dictionaries(
    {
        "providers": st.fixed_dictionaries(
            {"inference": st.lists(PROVIDERS, min_size=1, max_size=3)}
        )
    },
    optional={"models": VALUES, "registered_resources": VALUES, CANARY: VALUES, "version": SECRETS},
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return a stack's configuration, in one of many ways to write it, with canaries everywhere."""
    tree: dict[str, Any] = draw(STACKS)
    tree["providers"]["inference"].append(
        {"provider_id": "azure", "provider_type": "remote::azure", "config": {"api_key": CANARY}}
    )
    if draw(st.booleans()):
        tree["shared"] = tree["providers"]["inference"][0]["config"]  # an anchor and an alias
    text = yaml.safe_dump(
        tree,
        default_flow_style=draw(st.sampled_from([None, True, False])),
        default_style=draw(st.sampled_from([None, None, '"', "'", "|", ">"])),
        indent=draw(st.sampled_from([2, 4])),
        width=draw(st.sampled_from([20, 1000])),
        allow_unicode=draw(st.booleans()),
        explicit_start=draw(st.booleans()),
        sort_keys=False,
    )
    text = re.sub(r"(?<=[&*])id0", CANARY, text) + f"# {CANARY}\n"
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines)))
    text = "".join(lines[:at]) + f"# {CANARY}\n\n" + "".join(lines[at:])
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def dry_run(text: str, folder: Path, *options: str) -> Result:
    """Run the command on a text."""
    source = folder / "run.yaml"
    source.write_bytes(text.encode())
    return CliRunner().invoke(main, ["enrich", str(source), "--dry-run", *options])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts(), drop=st.booleans())
def test_no_secret_is_shown(text: str, tmp_path: Path, *, drop: bool) -> None:
    """Neither in the difference, nor in the notes, nor in an error; what changes is shown."""
    result = dry_run(text, tmp_path, *(["--drop-api-key"] if drop else []))
    assert CANARY not in result.output
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        changes = "\n".join(line for line in result.stdout.splitlines() if line.startswith("+"))
        assert re.search(r"\bmodel_validation\W+false\b", changes)
    else:
        assert result.exit_code == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api_key: sk-1 # k", "api_key: **** # ****"),
        ('{"api_key":"a b","base_url":"c"}', '{"api_key":"****","base_url":"****"}'),
        ("api_key:\n  sk-1", "api_key:\n  ****"),
        ("api_key: 'x\n  y'", "api_key: ****\n  ****"),
        ("api_key: ${env.AZURE_API_KEY:=sk-1}", "api_key: ${env.AZURE_API_KEY:=****}"),
        ("api_key: ${env.AZURE_API_KEY:+sk-1}", "api_key: ${env.AZURE_API_KEY:+****}"),
        ("api_key: ${env.AZURE_API_KEY:sk-1}", "api_key: ****"),
        ("api_key: sk${env.AZURE_API_KEY}", "api_key: ****${env.AZURE_API_KEY}"),
        ('api_key: "${env.AZURE_API_KEY}"', 'api_key: "${env.AZURE_API_KEY}"'),
        ("api_key: ${env.AZURE_API_KEY:=}", "api_key: ${env.AZURE_API_KEY:=}"),
        ("{api_key: null, secret: [s, t], a: b}", "{api_key: null, ****: [****, ****], ****: ****}"),
        ("base_url: https://u:p@x/v1", "base_url: ****"),
        ("metadata: {Authorization: Bearer x}", "metadata: {****: ****}"),
        ("config: &a {api_key: !b c}\n<<: *a", "config: &**** {api_key: !**** ****}\n<<: *****"),
        ("%YAML 1.2\n--- # a\nversion: 2\n", "%**** ****\n--- # ****\nversion: 2\n"),
        ("? a\n: b", "? ****\n: ****"),
        ("config:\n  api_key: |\n    a\n\n    b\n  version: 2",
         "config:\n  api_key: ****\n    ****\n\n    ****\n  version: 2"),
        ("provider_id: azure\nprovider_type: remote::azure\nconfig: {model_validation: FALSE}",
         "provider_id: azure\nprovider_type: remote::azure\nconfig: {model_validation: FALSE}"),
    ],
)  # fmt: skip
def test_only_what_is_known_to_be_harmless_is_shown(text: str, shown: str) -> None:
    """A stack's own words and the names of variables stay; each line keeps its place."""
    assert masked(text) == shown
