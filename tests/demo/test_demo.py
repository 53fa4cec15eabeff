"""`lightspeed-azure demo`: it goes well, it fails when it should, and it leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DEMO = [sys.executable, "-m", "lightspeed_azure", "demo"]


def processes_with(marker: str) -> list[int]:
    """Return the processes whose environment holds a marker."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def runs_a_stack(marker: str) -> bool:
    """Return whether one of these processes is a Llama Stack."""
    for pid in processes_with(marker):
        with contextlib.suppress(OSError):
            if b"llama_stack" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


@pytest.mark.timeout(240)
def test_the_demo_keeps_every_promise_in_both_modes() -> None:
    """Exit code 0, and a check mark for each of five promises in two modes."""
    result = subprocess.run(
        [*DEMO, "--seconds", "6", "--token-lifetime", "4"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("✓") == 10
    assert "✗" not in result.stdout
    assert "The demo went well." in result.stdout


@pytest.mark.timeout(240)
def test_the_demo_fails_and_says_what_when_renewals_are_broken() -> None:
    """When Entra ID refuses every renewal, questions fail, and the demo says so: exit code 1."""
    result = subprocess.run(
        [*DEMO, "--seconds", "6", "--token-lifetime", "3", "--mode", "library", "--break-renewals"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "✗" in result.stdout
    assert "HTTP 503" in result.stdout
    assert "1 different token(s)" in result.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(sign: signal.Signals) -> None:
    """Ctrl-C while the stack runs as a server ends the demo and all that it started."""
    marker = uuid.uuid4().hex
    process = subprocess.Popen(
        [*DEMO, "--mode", "service", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"MARKER": marker},
    )
    limit = time.monotonic() + 60
    while not runs_a_stack(marker) and time.monotonic() < limit:
        time.sleep(0.1)
    assert runs_a_stack(marker), "the demo started no server"
    process.send_signal(sign)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output.decode()
    assert b"Traceback" not in output
    assert processes_with(marker) == []
