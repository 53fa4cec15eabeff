"""The command as people expect one: help, version, completion, colours, Ctrl-C, and no surprises."""

import importlib.metadata
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lightspeed_azure.cli import main
from lightspeed_azure.cli.console import working
from lightspeed_azure.cli.reference import reference

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "lightspeed_azure"]


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_help_page_has_examples_that_exist(name: str) -> None:
    """`--help` and `-h` of each subcommand show examples, whose options there are."""
    page = CliRunner().invoke(main, [name, "--help"]).stdout
    assert page == CliRunner().invoke(main, [name, "-h"]).stdout
    _, _, shown = page.partition("Examples:\n")
    lines = [line for line in shown.splitlines() if "lightspeed-azure" in line]
    assert lines
    known = {option for parameter in main.commands[name].params for option in parameter.opts}
    for line in lines:
        words = line.partition("lightspeed-azure")[2].replace(")", " ").split()
        for word in words:
            if word.startswith("--"):
                assert word in known, line


def test_no_help_page_is_cut_at_80_columns() -> None:
    """Descriptions end with a full stop, and no line is longer than the terminal."""
    pages = [[], *([name] for name in sorted(main.commands))]
    for arguments in pages:
        page = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80).stdout
        assert [line for line in page.splitlines() if len(line) > 80] == []
        assert "..." not in page.replace("COMMAND [ARGS]...", "")
    listed = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    commands = listed.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(commands) == len(main.commands)
    assert all(line.endswith(".") for line in commands)


def test_the_version() -> None:
    """`--version` is the package's."""
    result = CliRunner().invoke(main, ["--version"])
    assert importlib.metadata.version("lightspeed-azure") in result.stdout


def test_what_does_not_exist_is_2() -> None:
    """An unknown subcommand or option is bad input, and names what was meant."""
    assert CliRunner().invoke(main, ["enrihc"]).exit_code == 2
    result = CliRunner().invoke(main, ["enrich", "--dry-ru"])
    assert result.exit_code == 2
    assert "--dry-run" in result.output


def test_docs_cli_is_what_the_command_says() -> None:
    """docs/cli.md is generated: python -m lightspeed_azure.cli.reference > docs/cli.md."""
    assert (ROOT / "docs" / "cli.md").read_text() == reference()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_completes(shell: str) -> None:
    """The printed script names our variable; asked through it, the command completes."""
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0
    assert "_LIGHTSPEED_AZURE_COMPLETE" in script.stdout
    if shell == "bash":
        program = Path(sys.executable).with_name("lightspeed-azure")
        asked = subprocess.run(
            [str(program)],
            env=os.environ
            | {
                "_LIGHTSPEED_AZURE_COMPLETE": "bash_complete",
                "COMP_WORDS": "lightspeed-azure enr",
                "COMP_CWORD": "1",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout == "plain,enrich\n"


def test_ctrl_c_is_clean() -> None:
    """SIGINT ends a waiting command with 130 and without a traceback."""
    process = subprocess.Popen(
        [*COMMAND, "enrich", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(
        "#" * 200_000
    )  # more than a pipe holds: when it is written, it is being read
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_verbose_shows_the_log(tmp_path: Path) -> None:
    """-v before or behind the subcommand; without it the log is silent."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("azure_entra_id: {managed_identity: system, deadline: 1}\n")
    quiet = subprocess.run(
        [*COMMAND, "token", "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert [
        line for line in quiet.stderr.splitlines() if not line.startswith("lightspeed-azure: ")
    ] == []
    for arguments in (["-v", "token"], ["token", "-v"]):
        loud = subprocess.run(
            [*COMMAND, *arguments, "-c", str(file)], capture_output=True, text=True, check=False
        )
        assert "INFO lightspeed_azure.tokens.entra: Tokens come from" in loud.stderr


def test_progress_shows_after_a_second_and_on_a_terminal_only() -> None:
    """What takes longer than a second says so on standard error, and wipes it away."""
    code = (
        "import time\nfrom lightspeed_azure.cli.console import working\n"
        "with working('Asking'): time.sleep(1.5)\nwith working('Quick'): pass\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs)
    process.wait(timeout=30)
    os.close(theirs)
    said = os.read(ours, 4096).decode() if select.select([ours], [], [], 1)[0] else ""
    os.close(ours)
    assert "Asking … 1 s" in said
    assert said.endswith("\r")
    assert "Quick" not in said
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stderr == b""


def test_working_lets_errors_through() -> None:
    """The progress does not swallow what happens below it."""
    with pytest.raises(click.UsageError), working("x"):
        raise click.UsageError("x")
