"""examples/llama-stack-entrypoint.sh: a stack from the enriched file, or nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from families import FAMILY, OGX
from integration_support import EXAMPLE

from lightspeed_azure.demo.processes import START_LIMIT, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[2] / "examples" / "llama-stack-entrypoint.sh"
PROGRAM = "ogx" if FAMILY is OGX else "llama"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run.yaml that insists on a key, and one for what is enriched."""
    text = (EXAMPLE / "run.yaml").read_text()
    start, base, rest = text.partition("        base_url:")
    (tmp_path / "run.yaml").write_text(
        f"{start}        api_key: ${{env.AZURE_API_KEY}}\n{base}{rest}"
    )
    (tmp_path / "enriched").mkdir()
    return tmp_path


def environment(folder: Path, path: str = "") -> dict[str, str]:
    """Return what a container would have: where things are, and no key of anybody's."""
    return {
        "PATH": path or f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "SQLITE_STORE_DIR": str(folder),
        "AZURE_API_BASE": "https://x.openai.azure.com/openai/v1",
        "STACK_PROGRAM": PROGRAM,
        "ENRICHED_RUN_YAML": str(folder / "enriched" / "run.yaml"),
    }


def test_it_becomes_the_stack(folder: Path) -> None:
    """The process is the stack itself, from the enriched file, logs as JSON, holds no key, and obeys."""
    port = free_port()
    own = environment(folder)
    more = ["--insecure"] if FAMILY is OGX else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(SCRIPT), "run.yaml", "--port", str(port), *more],
            cwd=folder,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_LIMIT
        while not _is_up(f"http://127.0.0.1:{port}/v1/health"):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        seen = Path(f"/proc/{process.pid}")
        arguments = (seen / "cmdline").read_bytes().split(b"\0")
        assert str(folder / "enriched" / "run.yaml").encode() in arguments
        assert not any(each.endswith(b"entrypoint.sh") for each in arguments)
        found = dict(
            each.decode().split("=", 1)
            for each in (seen / "environ").read_bytes().split(b"\0")
            if each
        )
        assert found.pop("LLAMA_STACK_LOG_FORMAT") == found.pop("OGX_LOG_FORMAT") == "json"
        assert {name: found[name] for name in own} == own
        assert not [name for name in found.keys() - own if "KEY" in name or "TOKEN" in name]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
    assert not list(folder.rglob("*.env"))
    assert not list(folder.rglob(".env"))
    assert (folder / "enriched" / "run.yaml").stat().st_mode & 0o077 == 0


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def watched(folder: Path) -> Path:
    """A folder with programs: the real command, and a stack that only says that it was started."""
    programs = folder / "bin"
    programs.mkdir()
    real = Path(sys.executable).with_name("lightspeed-azure")
    (programs / "lightspeed-azure").symlink_to(real)
    stack = programs / PROGRAM
    stack.write_text(f'#!/bin/sh\necho "$@" > {folder}/started\n')
    stack.chmod(0o755)
    return programs


def start(
    folder: Path, programs: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script to its end with the programs of one folder before the system's."""
    return subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=folder,
        env=environment(folder, f"{programs}:/usr/bin:/bin") | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_arguments_reach_the_stack(folder: Path, watched: Path) -> None:
    """Arguments after the file go to the stack unchanged; each start overwrites one private file."""
    for _ in range(2):
        result = start(folder, watched, "run.yaml", "--port", "1 2", ENRICHED_RUN_YAML="")
        assert result.returncode == 0, result.stderr
    (enriched,) = (folder / ".cache" / "lightspeed-azure").iterdir()
    assert enriched.stat().st_mode & 0o077 == 0
    assert enriched.parent.stat().st_mode & 0o077 == 0
    assert {each.name for each in folder.iterdir()} == {
        *("run.yaml", "enriched", "bin", "started", ".cache"),
    }
    verb = ["run"] if FAMILY is OGX else ["stack", "run"]
    said = (folder / "started").read_text().split()
    assert said[: len(verb)] == verb
    assert said[-3:] == ["--port", "1", "2"]
    assert said[len(verb)] == str(enriched)
    assert "model_validation: false" in enriched.read_text()


@pytest.mark.parametrize(
    ("arguments", "spoil", "words"),
    [
        ([], "", "say which run.yaml"),
        (["missing.yaml"], "", "missing.yaml"),
        (["run.yaml"], "broken", "was not enriched"),
        (["run.yaml"], "read-only", "was not enriched"),
        (["run.yaml"], "no-stack", "is not installed here"),
        (["run.yaml"], "no-enrich", "lightspeed-azure is not installed here"),
        (["run.yaml"], "other-program", "must be llama or ogx"),
        (["run.yaml"], "killed", "was not enriched"),
        (["run.yaml"], "silent", "is empty"),
    ],
)
def test_nothing_starts_on_bad_input(
    arguments: list[str], spoil: str, words: str, folder: Path, watched: Path
) -> None:
    """Exit code 2 and what to do; never a stack from the file that was not enriched."""
    more = {}
    if spoil == "broken":
        (folder / "run.yaml").write_text("providers: [\n")
    elif spoil == "read-only":
        more["ENRICHED_RUN_YAML"] = "/proc/nobody/run.yaml"
    elif spoil == "no-stack":
        (watched / PROGRAM).unlink()
    elif spoil == "no-enrich":
        (watched / "lightspeed-azure").unlink()
    elif spoil == "other-program":
        more["STACK_PROGRAM"] = "python"
    elif spoil in ("killed", "silent"):
        (watched / "lightspeed-azure").unlink()
        ends = "kill -9 $$" if spoil == "killed" else "exit 0"
        (watched / "lightspeed-azure").write_text(f"#!/bin/sh\n{ends}\n")
        (watched / "lightspeed-azure").chmod(0o755)
    result = start(folder, watched, *arguments, **more)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "started").exists()
    assert not list((folder / "enriched").iterdir())


def test_the_script_is_clean() -> None:
    """ShellCheck has nothing to say, and it is POSIX's sh, not bash."""
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is in the environment of Llama Stack")
    subprocess.run([str(program), "--shell=sh", "--severity=style", str(SCRIPT)], check=True)
    subprocess.run([str(shutil.which("dash") or "sh"), "-n", str(SCRIPT)], check=True)
