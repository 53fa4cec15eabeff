"""The example's Containerfile, as far as it can be tried without building: there is no registry here."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kustomize_program import KUBERNETES, ROOT
from uv_program import uv_command

CONTAINERFILE = KUBERNETES / "Containerfile"
TEXT = CONTAINERFILE.read_text()


def test_the_containerfile_is_clean() -> None:
    """Hadolint has nothing to say about it."""
    program = Path(sys.executable).with_name("hadolint")
    subprocess.run([str(program), str(CONTAINERFILE)], check=True)


def test_the_base_image_has_no_default() -> None:
    """Whoever builds names it, by digest; and nothing in it runs as root."""
    assert re.search(r"^ARG PYTHON_IMAGE$", TEXT, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert re.findall(r"^USER (\d+)", TEXT, re.MULTILINE) == ["1001"]


def test_what_it_copies_is_there() -> None:
    """Each file that goes in is in the repository, and in what is published of it."""
    for line in re.findall(r"^COPY ((?!--from).*)$", TEXT, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("family", ["llama-stack", "ogx"])
def test_what_it_installs_is_locked(family: str) -> None:
    """Its extras resolve from uv.lock alone, each package with a hash; the stack is among them."""
    extras = re.findall(r"--extra (\w+)", TEXT)
    assert extras == ["proxy", "otel"]
    chosen = [word for each in [family, *extras] for word in ("--extra", each)]
    command = [uv_command(), "export", "--quiet", "--locked", "--no-dev", "--no-emit-project"]
    result = subprocess.run(
        [*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = re.findall(r"^([\w.-]+)==(.*)$", result.stdout, re.MULTILINE)
    assert {family, "aiohttp", "joserfc"} <= {name for name, _ in found}
    assert result.stdout.count("--hash=") >= len(found)


def test_what_comes_on_top_fits_the_lock() -> None:
    """What only some providers need is pinned, and no other version than the lock's where it has one."""
    locked = {
        each["name"]: each.get("version")
        for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    lines = (KUBERNETES / "requirements-providers.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {"anthropic", "asyncpg", "psycopg2-binary", "boto3"} == pinned.keys()
    for name, version in pinned.items():
        assert locked.get(name, version) == version, name
