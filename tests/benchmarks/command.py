"""How fast the command starts, as ratios against what it cannot do without, in the same run.

Run `python tests/benchmarks/command.py`; it ends with 1 when a ratio is over its limit. Only
proportions mean anything on a busy machine: each command and its peer are started in turn, and the
fastest of each counts. Then it shows which heavy packages each command imports: none.
"""

import compileall
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 15
LIMIT = 1.5
HEAVY = ("azure", "llama_stack_client", "httpx", "fastapi")

ROOT = Path(__file__).parents[2]
RUN_YAML = ROOT / "examples" / "service" / "run.yaml"


def fastest(one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """Return the seconds that two commands take, started in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for number, command in enumerate((one, other)):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            best[number] = min(best[number], time.perf_counter() - started)
    return best[0], best[1]


def imported(arguments: Sequence[str]) -> list[str]:
    """Return which heavy packages a subcommand imports."""
    code = (
        "import sys\nfrom lightspeed_azure.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return result.stderr.splitlines()[-1].split()


def distribution() -> Path:
    """Return llama-stack's own starter configuration, the largest that there is."""
    spec = importlib.util.find_spec("llama_stack")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "distributions" / "starter" / "config.yaml"


def main() -> int:
    """Print the table."""
    compileall.compile_dir(ROOT / "lightspeed_azure", quiet=2)
    python, command = sys.executable, str(Path(sys.executable).with_name("lightspeed-azure"))
    peer = "import pydantic, ruamel.yaml, click"
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "out.yaml")
        rows = {
            "lightspeed-azure --help": ([command, "--help"], "import click"),
            "enrich (example)": ([command, "enrich", str(RUN_YAML), "-o", output], peer),
            "enrich (starter)": ([command, "enrich", str(distribution()), "-o", output], peer),
        }
        for name, (ours, theirs) in rows.items():
            taken, reference = fastest(ours, [python, "-c", theirs])
            ratio = taken / reference
            code |= ratio > LIMIT
            print(
                f"{name:26} {taken * 1000:6.0f} ms  {ratio:5.2f} times python -c {theirs!r} "
                f"({reference * 1000:.0f} ms; at most {LIMIT})"
            )
        for arguments in (["--help"], ["enrich", str(RUN_YAML), "-o", output]):
            found = imported(arguments)
            code |= bool(found)
            print(f"{arguments[0]:26} imports {', '.join(found) or 'none'} of {', '.join(HEAVY)}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
