"""docs/deployment.md: what it says was run is run here, and what needs a cluster says so."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kustomize_program import KUBERNETES, ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text()
COMMANDS = re.findall(r"^\$ ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)


def test_every_command_says_whether_it_was_run() -> None:
    """A line of a console is a command that was run, one that needs a cluster, or goes on with one."""
    for fence in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        assert all(re.match(r"(\$|cluster\$|   ) ", line) for line in fence.splitlines()), fence
    assert not [each for each in COMMANDS if re.search(r"apply|exec|create |podman|\baz ", each)]


def test_the_commands_without_a_cluster_run(tmp_path: Path) -> None:
    """Each works in a copy of the repository; verify.py names what is still the example's."""
    if not shutil.which("kubectl"):
        pytest.skip("the page uses kubectl's kustomize, which is not here")
    shutil.copytree(KUBERNETES, tmp_path / "examples" / "kubernetes")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    tried = 0
    for command in COMMANDS:
        if "entrypoint" in command:  # a test of its own starts that
            continue
        result = subprocess.run(
            [str(shutil.which("bash")), "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == (1 if "verify.py" in command else 0), result.stderr
        assert result.stderr == ""
        tried += 1
    assert tried >= 6


def test_every_component_and_overlay_is_on_the_page() -> None:
    """Whoever reads the page knows all that there is."""
    for folder in ("components", "overlays"):
        for each in (KUBERNETES / folder).iterdir():
            assert f"`{each.name}`" in PAGE or f"`{folder}/{each.name}`" in PAGE, each.name


def test_every_setting_is_on_the_page_or_explained_where_it_stands() -> None:
    """A variable of the overlays' settings is in the page's tables."""
    for file in KUBERNETES.glob("overlays/*/settings.env"):
        for name in re.findall(r"^([A-Z_]+)=", file.read_text(), re.MULTILINE):
            assert f"`{name}`" in PAGE, name
