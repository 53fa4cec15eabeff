"""The environment that OGX lives in: it cannot share one with llama-stack."""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".venv-ogx"


def ogx_program(name: str = "ogx") -> str:
    """Return a program of the OGX environment.

    Without the environment the test is skipped, but fails where all tests must run (`make test`
    sets MAKE_TEST, continuous integration CI).
    """
    program = Path(os.environ.get("OGX_ENVIRONMENT") or FOLDER) / "bin" / name
    if not program.exists():
        missing = f"{program} is missing; make it with: make .venv-ogx"
        if os.environ.get("MAKE_TEST") or os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return str(program)


def ogx_distributions() -> list[Path]:
    """Return every YAML file that ships inside the OGX wheel."""
    packages = Path(ogx_program()).parents[1] / "lib"
    return sorted(packages.glob("python3.*/site-packages/ogx/distributions/**/*.yaml"))
