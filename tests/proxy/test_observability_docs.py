"""What the pages on metrics, alerts and callers say is what the code does."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from documents import ROOT, fences
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from resolving import ResolverOfMetrics
from token_cache_fakes import FakeClock
from watched import Credential, Source, watched

from lightspeed_azure.config.dependents import condition_types, dependents
from lightspeed_azure.config.inbound import ALGORITHMS, KINDS, inbound
from lightspeed_azure.config.substitution import expand
from lightspeed_azure.metrics import PREFIX, Metrics
from lightspeed_azure.proxy.inbound import InboundStatus, Reason

INBOUND, OBSERVABILITY = ROOT / "docs" / "inbound-auth.md", ROOT / "docs" / "observability.md"
ALERTS = ROOT / "docs" / "alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]


@pytest.fixture(scope="module", name="families")
def _families() -> dict[str, list[Any]]:
    """Return the samples of every metric there is, by their family."""
    manager = watched(FakeClock(), Source(), "azure")
    manager.identities[0].get_token()
    state = InboundStatus("jwt", ready=True, keys=1, reloads=1, failures=0, last_error="")
    metrics = (
        Metrics()
        .watch(manager)
        .watch_credentials(lambda: [Credential()])
        .watch_resolvers(lambda: [ResolverOfMetrics()])
        .watch_inbound(lambda: state)
    )
    tracked = metrics.request_started("/v1/models")
    tracked.first_byte()
    tracked.finished(200)
    metrics.rejected("expired")
    text = metrics.exposition()[0].decode()
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def selectors(expression: Any) -> list[Any]:
    """Return every metric that an expression of PromQL reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        return [expression]
    found = []
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        found += selectors(getattr(expression, name)) if hasattr(expression, name) else []
    for argument in getattr(expression, "args", None) or []:
        found += selectors(argument)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_reads_metrics_that_exist(
    rule: dict[str, Any], families: dict[str, list[Any]]
) -> None:
    """Its expression is PromQL, and each metric and label in it is one that is shown."""
    read = selectors(promql_parser.parse(rule["expr"]))
    assert read
    samples = [sample for found in families.values() for sample in found]
    for selector in read:
        labels = [sample.labels for sample in samples if sample.name == selector.name]
        assert labels, f"{selector.name} is shown nowhere"
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels[0], f"{selector.name} has no label {matcher.name}"
    for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
        assert any(label in sample.labels for sample in samples if sample.name == read[0].name)
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_each_alert_says_what_to_do() -> None:
    """The page has a row for each rule, and no other."""
    rows = re.findall(r"^\| `(LightspeedAzure\w+)` \| \S", OBSERVABILITY.read_text(), re.MULTILINE)
    assert rows == [rule["alert"] for rule in RULES]


def test_promtool_accepts_the_rules() -> None:
    """Prometheus' own tool, where there is one, and what it makes of a day that goes wrong."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; the rules are parsed by another test")
    scenario = Path(__file__).parents[1] / "support" / "alerts_scenario.yaml"
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(scenario)]):
        result = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_table_of_metrics_is_whole(families: dict[str, list[Any]]) -> None:
    """Each metric has its row with its labels, and each row its metric."""
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", OBSERVABILITY.read_text(), re.MULTILINE)
    told = {
        name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows if "Azure" not in name
    }
    for name in ("LLMProxyReady", "APIKeysConfigured"):
        told.pop(name)
    shown = {}
    for name, samples in families.items():
        short = name.removeprefix(PREFIX)
        if short.startswith("process_") or short.endswith("_created"):
            continue
        total = f"{short}_total" if samples[0].name.endswith("_total") else short
        shown[total] = set(samples[0].labels) - {"le"}
    assert told == shown


def test_the_route_of_the_page_serves_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example runs as it stands."""
    (tmp_path / "lightspeed-stack.yaml").write_text(
        "llama_stack: {url: 'http://127.0.0.1:9'}\n"
        "azure_entra_id: {tenant_id: t, client_id: c, client_secret: cAn4ry}\n"
    )
    monkeypatch.chdir(tmp_path)
    (code,) = fences(OBSERVABILITY, "python")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the page's own example
    app: FastAPI = names["app"]
    with TestClient(app) as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert 'lightspeed_azure_token_usable{identity="azure"} 0.0' in answer.text
    assert "cAn4ry" not in answer.text


def _blocks(page: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(code)["proxy"] for code in fences(page, "yaml")]


@pytest.mark.parametrize("number", range(len(_blocks(INBOUND))))
def test_the_configurations_of_the_page_are_read(number: int) -> None:
    """Each YAML that an operator copies is a configuration."""
    block = _blocks(INBOUND)[number]["inbound"]
    environ = {"AZURE_TENANT_ID": "11111111-1111-1111-1111-111111111111"}
    for name, value in block.items():
        if isinstance(value, list):
            block[name] = [expand(item, environ) for item in value]
        elif isinstance(value, str):
            block[name] = expand(value, environ)
    config = inbound(block)
    assert config.kind == ("api_keys" if "api_keys_file" in block else "jwt")


def test_dependents_of_the_page_make_the_condition_that_it_says() -> None:
    """`solution-server` is waited for as `SolutionServerReady`."""
    (block,) = _blocks(OBSERVABILITY)
    assert condition_types(dependents(block["dependents"])) == ("SolutionServerReady",)


def test_the_tables_of_the_page_are_whole() -> None:
    """Every key of the block with its default, every algorithm, every reason."""
    text = INBOUND.read_text()
    fields = {name: field for each in KINDS.values() for name, field in each.model_fields.items()}
    for name, field in fields.items():
        assert f"`{name}`" in text or f"{name}:" in text, name
        row = re.search(rf"^\| `{name}` \| `([^`]+)` \|", text, re.MULTILINE)
        if row:
            default = field.default
            shown = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(row.group(1)) == shown, name
    table = text[text.index("## What a caller is told") :]
    assert set(re.findall(r"`(\w+)`", table)) >= {str(each) for each in Reason}
    assert {"EdDSA", "Ed25519", "Ed448", "RS256", "ES256", "PS256"} <= set(ALGORITHMS)


def test_the_hash_of_the_page_is_the_one_that_is_compared(tmp_path: Path) -> None:
    """The copied commands make a file that lets the key in."""
    from lightspeed_azure.proxy.inbound.api_keys import hashes_of

    (code,) = [code for code in fences(INBOUND, "console") if "sha256" in code]
    lines = [line.removeprefix("$ ") for line in code.splitlines() if "curl" not in line]
    script = "\n".join([*lines, 'printf %s "$KEY" | sha256sum | cut -c1-64'])
    result = subprocess.run(
        ["/bin/bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    content = (tmp_path / "api_keys").read_bytes()
    assert hashes_of(content) == {bytes.fromhex(result.stdout.strip())}
