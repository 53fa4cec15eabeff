"""The words are true: every code fence is run or checked."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import DOCS, ROOT, fences
from integration_support import EXAMPLE

from lightspeed_azure.config import configuration_from_mapping
from lightspeed_azure.emulators import Emulators


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_fence_names_its_language(page: Path) -> None:
    """A fence without a language cannot be checked, nor coloured."""
    opened = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)[::2]
    assert all(opened), f"{page.name}: a code fence without a language"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_provider_configuration_says_base_url(page: Path) -> None:
    """`azure_api_base` belongs inside the header, and nothing but the header's page shows it."""
    for code in fences(page, "yaml"):
        assert "azure_api_base" not in code
        assert "api_base:" not in code


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_nothing_claims_that_a_token_is_fetched_at_start_up(page: Path) -> None:
    """Nothing is fetched before the first use, so no page says otherwise."""
    for sentence in re.split(r"(?<=[.;:])\s+", page.read_text()):
        lowered = sentence.lower()
        if "token" in lowered and re.search(r"start-?up|when .* starts", lowered):
            assert re.search(r"\b(no|not|nothing|never|without|unless)\b", lowered), sentence


def test_the_commands_of_the_readme_exist() -> None:
    """Each `make` target and each subcommand that the README names is there."""
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", text):
        if target != "and":
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    helped = subprocess.run(
        [sys.executable, "-m", "lightspeed_azure", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for command in re.findall(r"lightspeed-azure ([a-z]+)", text):
        assert f"  {command} " in helped, command


def test_the_configuration_of_the_readme_is_read() -> None:
    """The YAML that an operator copies is a configuration; a stack's is the example's."""
    service, stack = [yaml.safe_load(code) for code in fences(ROOT / "README.md", "yaml")]
    environ = {f"AZURE_{name}": "x" for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")}
    loaded = configuration_from_mapping(service, environ=environ)
    assert loaded.azure_entra_id[0].credential_kind == "client_secret"
    assert loaded.llama_stack is not None
    assert loaded.llama_stack.use_as_library_client
    example = yaml.safe_load((EXAMPLE / "run.yaml").read_text())
    assert stack["providers"]["inference"] == example["providers"]["inference"]
    assert stack["registered_resources"] == example["registered_resources"]


def test_the_examples_of_credentials_are_the_same_in_both_places() -> None:
    """The README's identity is the example's, but for what only another authority needs."""
    readme = yaml.safe_load(fences(ROOT / "README.md", "yaml")[0])["azure_entra_id"]
    example = yaml.safe_load((EXAMPLE / "lightspeed-stack.yaml").read_text())["azure_entra_id"]
    assert readme.items() <= example.items()


@pytest.mark.integration
@pytest.mark.parametrize("number", range(len(fences(ROOT / "README.md", "python"))))
def test_the_python_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    """Each example runs as it stands, on a real stack and the emulators."""
    code = fences(ROOT / "README.md", "python")[number]
    names = {node.name for node in ast.walk(ast.parse(code)) if hasattr(node, "name")}
    for name in ("lightspeed-stack.yaml", "run.yaml"):
        (tmp_path / name).write_text((EXAMPLE / name).read_text())
    file = tmp_path / "test_example.py"
    file.write_text(code + (ASKS if "query" in names else ""))
    command = [sys.executable, str(file)]
    if "test_my_service_signs_in" in names:
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, str(file)]
    with Emulators() as emulators:
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment() | emulators.environment() | {"LLAMA_STACK_LOG_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        if "query" in names or "main" in names:
            assert emulators.azure.requests.accepted == 1


ASKS = """

from fastapi.testclient import TestClient

with TestClient(app) as http:
    answer = http.post("/query", params={"question": "Who are you?"})
    assert answer.status_code == 200, answer.text
    assert "Who are you?" in answer.json(), answer.text
"""


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anything of Azure's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
