"""`lightspeed-azure check` against a real Llama Stack and a real OGX, and what it must not show."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from canary import Canary
from check_support import check, run, states, write_configuration
from integration_support import EXAMPLE
from ogx_environment import ogx_program

from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.emulators import Emulators, Fault

pytestmark = pytest.mark.integration

MODEL = "azure/gpt-4o-mini"


@pytest.fixture(scope="module")
def ogx_url(stack_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OGX in a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("ogx")
    port = url.rpartition(":")[2]
    with asyncio.Runner() as runner:
        running = server(
            [ogx_program(), "run", str(EXAMPLE / "run.yaml"), "--port", port, "--insecure"],
            health=f"{url}/v1/health",
            folder=folder,
            environment=dict(os.environ)
            | {"SQLITE_STORE_DIR": str(folder), "OGX_LOG_FORMAT": "json"},
            log=folder / "ogx.log",
        )
        runner.run(running.__aenter__())
        yield url
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def variables(
    stack_environment: None, emulators: Emulators, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The variables that lead to the emulators which the stacks know; set."""
    for name, value in emulators.environment().items():
        monkeypatch.setenv(name, value)
    return emulators.environment()


@pytest.fixture(params=["stack_url", "ogx_url"])
def url(request: pytest.FixtureRequest) -> str:
    """Where a real stack is, of each family."""
    return str(request.getfixturevalue(request.param))


def test_all_is_well(
    url: str, tmp_path: Path, variables: dict[str, str], emulators: Emulators
) -> None:
    """Every question is answered, a real one by Azure too; the family and its header are known."""
    before = emulators.azure.requests.accepted
    code, findings = check(write_configuration(tmp_path, url=url), "--inference", MODEL)
    assert code == 0, findings
    family, header = findings["stack"][0]["found"].split()[0], findings["stack"][0]["found"]
    assert {"Llama": "X-LlamaStack-Provider-Data", "OGX": "X-OGX-Provider-Data"}[family] in header
    assert findings["models"][0]["found"] == MODEL
    assert "azure at http" in findings["provider"][0]["found"]
    assert states(findings)["inference"] == "ok"
    assert emulators.azure.requests.accepted == before + 1


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_each_fault_of_azure_is_located(
    status: int, url: str, tmp_path: Path, variables: dict[str, str], emulators: Emulators
) -> None:
    """It comes through the stack, and is known as Azure's; exit code 1."""
    model = MODEL
    if status == 401:
        emulators.azure.audiences = ["https://another.example"]
    elif status == 404:
        model = "azure/no-such-deployment"
    else:
        emulators.azure.fault(Fault.status(status))
    code, findings = check(write_configuration(tmp_path, url=url), "--inference", model)
    assert code == 1
    assert findings["inference"][0]["found"].startswith(f"Azure ({status})")


def test_a_model_of_nobody(url: str, tmp_path: Path, variables: dict[str, str]) -> None:
    """That the stack does not know it is not Azure's fault."""
    findings = check(write_configuration(tmp_path, url=url), "--inference", "nobodys/model")[1]
    assert findings["inference"][-1]["found"].startswith("the stack (404)")


def test_library_mode_starts_the_stack_for_a_question(
    tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is timed; what the stack prints of itself does not get between the findings."""
    monkeypatch.setenv("SQLITE_STORE_DIR", str(tmp_path))
    file = write_configuration(tmp_path)
    code, findings = check(file, "--inference", MODEL)
    assert code == 0, findings
    assert states(findings)["inference"] == "ok"


def test_no_secret_is_shown(
    tmp_path: Path,
    variables: dict[str, str],
    emulators: Emulators,
    stack_url: str,
    canary: Canary,
) -> None:
    """Neither check nor token nor enrich shows a token, a client secret or a static key."""
    file = write_configuration(tmp_path, url=stack_url)
    run_yaml = file.with_name("run.yaml")
    key = "        api_key: static-canary-key\n        base_url"
    run_yaml.write_text(run_yaml.read_text().replace("        base_url", key))
    secret = variables["AZURE_CLIENT_SECRET"]
    texts = [
        run("check", "-c", str(file), "--inference", MODEL).output,
        run("check", "-c", str(file), "--json", "--inference", "azure/none").output,
        run("token", "-c", str(file)).output,
        run("token", "-c", str(file), "--json").output,
        run("enrich", str(run_yaml), "--dry-run").output,
        run("enrich", str(run_yaml), "--dry-run", "--drop-api-key").output,
        run("enrich", str(run_yaml), "-o", str(tmp_path / "out.yaml")).output,
    ]
    emulators.azure.audiences = ["https://another.example"]
    texts.append(run("check", "-c", str(file), "--inference", MODEL).output)
    canary.watch(static_key="static-canary-key", variable=secret)
    for number, text in enumerate(texts):
        canary.texts[f"output {number}"] = text
        assert len(text) > 50
        assert "eyJ" not in text  # how every JWT begins
