"""The package as a whole: its public names, the direction of its imports, its wheel."""

import ast
import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv_program import uv_command

import lightspeed_azure

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lightspeed_azure"

# Each room may import those above it, and none below.
ROOMS = [
    {"errors", "network_failure"},
    {"concurrency"},
    {"process_wide"},
    {"enrichment"},
    {"secrets"},
    {"config", "provider_data"},
    {"tokens"},
    {"keys"},
    {"clients"},
    {"transports"},
    {"fastapi"},
    {"metrics"},
    {"proxy"},
    {"emulators"},
    {"demo"},
    {"check"},
    {"cli"},
    {"__main__"},
]


def imports(file: Path) -> set[str]:
    """Return the rooms of this package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightspeed_azure"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def test_imports_run_one_way() -> None:
    """No room imports one that stands below it in the house."""
    level = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in level, f"{room} has no place in the house"
        for other in imports(file) - {room}:
            assert level[other] <= level[room], f"{room} imports {other}"


def test_every_room_is_in_the_architecture() -> None:
    """docs/architecture.md names each file and folder of the package."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room in {room for rooms in ROOMS for room in rooms}:
        assert f"`{room}`" in text or f"`{room}/`" in text, room


def test_all_is_sorted_and_true() -> None:
    """`__all__` is sorted, and each name of it is there and says that it lives here."""
    assert lightspeed_azure.__all__ == sorted(lightspeed_azure.__all__)
    for name in lightspeed_azure.__all__:
        assert getattr(lightspeed_azure, name).__module__.startswith("lightspeed_azure"), name


@pytest.mark.parametrize("command", [["--help"], ["enrich", "--help"], ["--version"]], ids=" ".join)
def test_the_command_starts_without_the_heavy_parts(command: list[str]) -> None:
    """`--help` imports neither azure-identity, nor a stack client, nor httpx, nor pydantic."""
    code = (
        "import sys\nfrom lightspeed_azure.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "print(sorted({'azure', 'llama_stack_client', 'httpx', 'pydantic', 'fastapi', 'ruamel',"
        " 'rich', 'aiohttp'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command names it, and exits with 2."""
    from click.testing import CliRunner

    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in [name for name in sys.modules if name.startswith("lightspeed_azure.demo")]:
        monkeypatch.delitem(sys.modules, name)
    cli = importlib.import_module("lightspeed_azure.cli")
    result = CliRunner().invoke(cli.main, ["demo"])
    assert result.exit_code == 2
    assert "lightspeed-azure[demo]" in result.output


@pytest.mark.integration
@pytest.mark.timeout(400)
def test_the_wheel_installs_and_runs_the_demo(tmp_path: Path) -> None:
    """What would be published has all it needs: the demo runs from the wheel alone."""
    uv = uv_command()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_PROJECT", "VIRTUAL_ENV", "PYTHON"))
    }
    build = [uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, env=environment)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "lightspeed_azure/py.typed" in names
    assert "lightspeed_azure/demo/service/app.py" in names
    assert not [name for name in names if name.endswith((".db", ".pyc"))]
    emulators = [name for name in names if name.startswith("lightspeed_azure/emulators/")]
    doubles = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")}
    assert emulators
    assert not [name for name in emulators if Path(name).stem in doubles]
    assert not [name for name in emulators if re.search("vault|google|provider", name)]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")],
        check=True,
        env=environment,
    )
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(python), f"{wheel}[demo]"],
        check=True,
        env=environment,
    )
    demo = [str(python.with_name("lightspeed-azure")), "demo", "--mode", "library"]
    result = subprocess.run(
        [*demo, "--seconds", "5", "--token-lifetime", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stdout + result.stderr
