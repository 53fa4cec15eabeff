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
from click.testing import CliRunner

from lightspeed_azure.cli import main


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the emulators until the block ends."""
    command = [sys.executable, "-m", "lightspeed_azure", "emulate", *arguments]
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


@pytest.mark.parametrize("option", ["--entra-port", "--azure-port", "--imds-port"])
def test_a_taken_port_is_bad_input(option: str) -> None:
    """As with `proxy`: exit code 2, and the option on standard error; nothing on standard output."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["emulate", option, str(port)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"lightspeed-azure: {option}: cannot listen at 127.0.0.1:{port} "
        "(Address already in use); give another port\n"
    )


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_the_proxy_does_alike(option: str, tmp_path: Path) -> None:
    """The key and the option are named."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("llama_stack: {url: 'http://127.0.0.1:1'}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--admin-port" if option == "--port" else "--port"
        arguments = ["proxy", "-c", str(file), option, str(port), other, "0"]
        result = CliRunner().invoke(main, arguments)
    key = f"proxy.{option.removeprefix('--').replace('-', '_')}"
    assert result.exit_code == 2
    assert result.stderr == (
        f"lightspeed-azure: {key} ({option}): cannot listen at 127.0.0.1:{port} "
        "(Address already in use); give another host or port\n"
    )


def test_a_token_may_live_for_less_than_a_second() -> None:
    """The lifetime is any number of seconds above 0; 0 is bad input."""
    with served("--json", "--token-lifetime", "0.5") as process:
        assert process.stdout is not None
        assert "AZURE_API_BASE" in json.loads(process.stdout.readline())
    result = CliRunner().invoke(main, ["emulate", "--token-lifetime", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--token-lifetime': 0.0 is not in the range x>0." in result.stderr


def test_the_command_is_the_only_one() -> None:
    """The emulators are no command of their own: `lightspeed-azure emulate` serves them."""
    command = [sys.executable, "-m", "lightspeed_azure.emulators"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "No module named lightspeed_azure.emulators.__main__" in ended.stderr
