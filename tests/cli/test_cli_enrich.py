"""`lightspeed-azure enrich`: where it reads and writes, what it says, how it ends."""

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from integration_support import EXAMPLE

from lightspeed_azure.cli import main

RUN = """\
# A stack
providers:
  inference:
  - provider_id: azure # ours
    provider_type: remote::azure
    config:
      base_url: https://x.openai.azure.com/openai/v1
      api_key: ${env.AZURE_API_KEY}
registered_resources:
  models: [{model_id: m, provider_id: azure}]
"""
ENRICHED = RUN.replace("_KEY}\n", "_KEY:=}\n      model_validation: false\n")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run.yaml, and no other configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTSPEED_STACK_CONFIG_PATH", raising=False)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def enrich(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["enrich", *arguments], input=stdin)


@pytest.mark.parametrize(
    "arguments",
    [["run.yaml"], ["-i", "run.yaml"], ["run.yaml", "-o", "-"], []],
    ids=" ".join,
)
def test_the_result_goes_to_standard_output(arguments: Sequence[str]) -> None:
    """INPUT, upstream's -i, or run.yaml without either; nothing else on standard output."""
    result = enrich(*arguments)
    assert result.exit_code == 0
    assert result.stdout == ENRICHED
    assert "✓ run.yaml:8: providers.inference[0].config.api_key: made optional" in result.stderr
    assert "! run.yaml:8: providers.inference[0].config.api_key: is used" in result.stderr


def test_standard_input_is_a_hyphen(folder: Path) -> None:
    """`-` reads standard input, whatever files there are."""
    result = enrich("-", stdin=RUN)
    assert result.stdout == ENRICHED
    assert "standard input:8:" in result.stderr


def test_a_file_is_private_and_whole(folder: Path) -> None:
    """Mode 0600, also where one of another mode stood; nothing is left beside it."""
    output = folder / "out.yaml"
    output.write_text("old")
    output.chmod(0o644)
    result = enrich("run.yaml", "-o", "out.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_text() == ENRICHED
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} == {"run.yaml", "out.yaml"}


def test_the_input_is_overwritten_only_in_place(folder: Path) -> None:
    """By its own name or by a link: refused, unless --in-place says so; a link stays one."""
    (folder / "link.yaml").symlink_to("run.yaml")
    os.link(folder / "run.yaml", folder / "hard.yaml")
    for output in ("run.yaml", "./run.yaml", "link.yaml", "hard.yaml"):
        result = enrich("run.yaml", "-o", output)
        assert result.exit_code == 2
        assert "--in-place" in result.stderr
        assert (folder / "run.yaml").read_text() == RUN
    assert enrich("--in-place", "link.yaml").exit_code == 0
    assert (folder / "link.yaml").is_symlink()
    assert (folder / "run.yaml").read_text() == ENRICHED


def test_a_dry_run_shows_and_writes_nothing(folder: Path) -> None:
    """A difference on standard output, in which no static key is shown."""
    (folder / "run.yaml").write_text(RUN.replace("${env.AZURE_API_KEY}", "sk-very-secret # k"))
    result = enrich("run.yaml", "--in-place", "--dry-run", "--drop-api-key")
    assert result.exit_code == 0
    assert "-      api_key: ****" in result.stdout
    assert "+      model_validation: false" in result.stdout
    assert "sk-very-secret" not in result.output
    assert "sk-very-secret" in (folder / "run.yaml").read_text()


def test_the_earlier_way_is_refused_with_the_new_one(folder: Path) -> None:
    """`--env-file`, which put a token into a file, ends with 2 and says what to do."""
    result = enrich("-c", "x.yaml", "-i", "run.yaml", "-o", "out.yaml", "--env-file", ".env")
    assert result.exit_code == 2
    assert "remove the option" in result.stderr
    assert not (folder / "out.yaml").exists()


def test_no_repair_sets_the_switch_only() -> None:
    """`--no-repair` changes model_validation, and says what the stack would insist on."""
    result = enrich("run.yaml", "--no-repair")
    assert result.stdout == RUN.replace("_KEY}\n", "_KEY}\n      model_validation: false\n")
    assert "keeps the stack from starting" in result.stderr


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("llama_stack: {url: x}\n", False),
        ("azure_entra_id:\n", True),
        ("azure_entra_id: {tenant_id: '${env.UNSET}'}\n", True),
        ("azure_entra_id: [{provider_id: azure}]\n", True),
    ],
)
@pytest.mark.parametrize("way", ["option", "variable", "here"])
def test_the_configuration_says_whether_entra_id_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, config: str, way: str, *, changes: bool
) -> None:
    """-c, else the variable, else lightspeed-stack.yaml here; without the block nothing changes."""
    name = "lightspeed-stack.yaml" if way == "here" else "other.yaml"
    (folder / name).write_text(config)
    if way == "variable":
        monkeypatch.setenv("LIGHTSPEED_STACK_CONFIG_PATH", name)
    result = enrich("run.yaml", *(["-c", name] if way == "option" else []))
    assert result.exit_code == 0
    assert result.stdout == (ENRICHED if changes else RUN)
    assert ("has no azure_entra_id" in result.stderr) is not changes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "missing.yaml: there is no such file"),
        (["."], "cannot be read"),
        (["run.yaml", "-i", "run.yaml"], "give one of them"),
        (["run.yaml", "--in-place", "-o", "x"], "exclude each other"),
        (["-", "--in-place"], "exclude each other"),
        (["run.yaml", "-o", "nowhere/out.yaml"], "check the folder"),
        (["run.yaml", "-o", "."], "is not a file"),
        (["run.yaml", "-c", "missing.yaml"], "missing.yaml: there is no such file"),
    ],
)
def test_bad_input_ends_with_2(arguments: Sequence[str], words: str) -> None:
    """One clear message, no traceback."""
    result = enrich(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_pipe_has_no_colours(folder: Path) -> None:
    """Neither a pipe nor NO_COLOR gets an escape sequence; a terminal does."""
    command = [sys.executable, "-m", "lightspeed_azure", "enrich", "run.yaml", "--dry-run"]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert b"\x1b[" not in piped.stdout + piped.stderr
    coloured = CliRunner().invoke(main, ["enrich", "run.yaml", "--dry-run"], color=True)
    assert "\x1b[32m+      model_validation" in coloured.stdout
    plain = CliRunner(env={"NO_COLOR": "1"}).invoke(
        main, ["enrich", "run.yaml", "--dry-run"], color=True
    )
    assert "\x1b[" not in plain.stdout


def test_the_example_needs_nothing_but_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation's own run.yaml has nothing to be warned about but its variable."""
    monkeypatch.setenv("AZURE_API_BASE", "https://x.openai.azure.com/openai/v1")
    assert "!" not in enrich(str(EXAMPLE / "run.yaml")).stderr
    monkeypatch.delenv("AZURE_API_BASE")
    result = enrich(str(EXAMPLE / "run.yaml"))
    assert [line for line in result.stderr.splitlines() if line.startswith("!")] == [
        (
            f"! {EXAMPLE / 'run.yaml'}:12: providers.inference[0].config.base_url: keeps the stack from "
            "starting where AZURE_API_BASE has no value; set it to "
            "https://<resource>.openai.azure.com/openai/v1"
        )
    ]


def test_nothing_heavy_is_imported(folder: Path) -> None:
    """Enriching needs neither azure-identity, nor a stack's client, nor httpx, nor pydantic."""
    code = (
        "import sys\nfrom lightspeed_azure.cli import main\n"
        "try: main(['enrich', 'run.yaml', '-o', 'out.yaml'])\nexcept SystemExit: pass\n"
        "print(sorted({'azure', 'llama_stack_client', 'httpx', 'pydantic', 'fastapi'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
    assert (folder / "out.yaml").exists()


@pytest.mark.parametrize("options", [["-o", "out.yaml"], ["--in-place"]], ids=" ".join)
def test_a_full_disk_leaves_what_was_there(folder: Path, options: Sequence[str]) -> None:
    """One line with the file and the cure; neither a half-written file nor a temporary one stays."""
    (folder / "out.yaml").write_text("before")
    code = (
        "import resource, sys\nfrom lightspeed_azure.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "main(['enrich', 'run.yaml', *sys.argv[1:]])\n"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", code, *options], capture_output=True, text=True, check=False
    )
    name = "run.yaml" if "--in-place" in options else "out.yaml"
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        (
            f"lightspeed-azure: {name}: cannot be written (File too large); free some space, or "
            "write to another disk\n"
        ),
    )
    assert (folder / "out.yaml").read_text() == "before"
    assert (folder / "run.yaml").read_text() == RUN
    assert {path.name for path in folder.iterdir()} == {"run.yaml", "out.yaml"}


@pytest.mark.parametrize(
    "arguments",
    [["enrich", "run.yaml"], ["enrich", "run.yaml", "--dry-run"], ["check", "--json"],
     ["completion", "bash"], ["--version"], ["enrich", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_output_that_cannot_be_written_ends_with_2(arguments: Sequence[str]) -> None:
    """Each command says so in one line, also where Python writes only at the end."""
    command = [sys.executable, "-m", "lightspeed_azure", *arguments]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("lightspeed-azure: ")]
    assert lines == ["lightspeed-azure: cannot read or write: No space left on device"]


def test_standard_streams_may_be_closed() -> None:
    """A closed standard input is an error; a closed standard output takes nothing."""
    command = [sys.executable, "-m", "lightspeed_azure", "enrich"]
    closed = subprocess.run(
        [*command, "-"], preexec_fn=lambda: os.close(0), capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (
        2,
        "lightspeed-azure: standard input: is closed; name a file\n",
    )
    silent = subprocess.run(
        [*command, "run.yaml"],
        preexec_fn=lambda: os.close(1),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert silent.returncode == 0
    assert "Traceback" not in silent.stderr


def test_a_name_that_the_system_refuses_is_no_traceback(folder: Path) -> None:
    """A name that is too long, and a link that leads to itself, to read and to write."""
    (folder / "loop").symlink_to("loop")
    long = "x" * 300
    assert [enrich(*arguments).stderr for arguments in (
        [long], ["loop"], ["run.yaml", "-o", long], ["run.yaml", "-o", "loop/out.yaml"], ["run.yaml", "-c", long],
    )] == [
        f"lightspeed-azure: {long}: cannot be read (File name too long); give a file, and check its rights\n",
        "lightspeed-azure: loop: cannot be read (Too many levels of symbolic links); give a file, and check its rights\n",
        f"lightspeed-azure: {long}: cannot be written (File name too long); check the folder and its rights\n",
        "lightspeed-azure: loop/out.yaml: cannot be written (Too many levels of symbolic links); check the folder and its rights\n",
        f"lightspeed-azure: {long}: cannot be read (File name too long); give a file, and check its rights\n",
    ]  # fmt: skip
