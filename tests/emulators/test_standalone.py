"""The emulators as a process of their own."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the emulators until the block ends."""
    command = [sys.executable, "-m", "lightspeed_azure.emulators", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()  # so that it tidies up
            process.wait(timeout=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(number: signal.Signals) -> None:
    """One line of JSON tells where; a signal ends it with 0, and nothing is left."""
    with served("--json", "--token-lifetime", "60") as process:
        assert process.stdout is not None
        environment = json.loads(process.stdout.readline())
        assert httpx.get(environment["AZURE_API_BASE"]).status_code == 401
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
    assert not Path(environment["AZURE_AUTHORITY_CA_BUNDLE"]).parent.exists()


def test_the_lines_are_for_a_shell() -> None:
    """`eval` takes them."""
    with served() as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        process.send_signal(signal.SIGINT)
    assert all(line.startswith("export AZURE_") for line in lines)
    script = "".join(lines) + 'printf %s "$AZURE_AUTHORITY_HOST"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout.startswith("https://localhost:")


def test_a_taken_port() -> None:
    """The exit code is 1, and the text says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with served("--port", str(taken.getsockname()[1])) as process:
            out, _ = process.communicate(timeout=10)
        assert process.returncode == 1
        assert "cannot listen" in out
