"""What the tests of `check` and `token` share: a folder with a configuration, and the command in it."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from integration_support import EXAMPLE

from lightspeed_azure.cli import main


def write_configuration(folder: Path, *, url: str | None = None, more: str = "") -> Path:
    """Write the example's two files, in service mode when a URL is given."""
    text = (EXAMPLE / "lightspeed-stack.yaml").read_text()
    if url:
        text = text.replace("use_as_library_client: true", "use_as_library_client: false")
        text = text.replace("${env.LLAMA_STACK_URL:=http://127.0.0.1:8321}", url)
    text = text.replace("run.yaml", str(folder / "run.yaml"))
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text + more)
    (folder / "run.yaml").write_text((EXAMPLE / "run.yaml").read_text())
    return file


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments)


def check(file: Path, *arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Run `check --json`; return the exit code and the findings by their question."""
    result = run("check", "--config", str(file), "--json", *arguments)
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        findings.setdefault(finding["question"], []).append(finding)
    return result.exit_code, findings


def states(findings: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return the worst state of each question."""
    order = ("failed", "warning", "ok")
    return {
        question: min((one["state"] for one in found), key=order.index)
        for question, found in findings.items()
    }
