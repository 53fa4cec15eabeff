"""Forked processes: no lock, thread or import of the parent keeps a child from working."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from integration_support import entra_block

from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

SCRIPT = Path(__file__).with_name("forking_script.py")


def run_script(how: str, block: dict[str, object]) -> list[str]:
    """Run the script; return what its children printed."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT), how],
        input=json.dumps(block),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return [*result.stdout.splitlines(), *([result.stderr] if result.returncode else [])]


def client_secret(emulators: Emulators) -> dict[str, object]:
    """Return the block of an application with a client secret, as JSON can hold it."""
    block = {name: str(value) for name, value in entra_block(emulators).items()}
    return block | {
        "client_secret": emulators.entra.application.client_secret.get_secret_value(),
        "deadline": 10,
    }


@pytest.mark.parametrize(
    ("how", "children"), [("preload", 2), ("pool", 4), ("thread", 8), ("renewing", 12)]
)
def test_a_child_forked_around_set_config_gets_a_token(
    azure_emulators: Emulators, how: str, children: int
) -> None:
    """The import of azure-identity that `set_config` starts does not block the child's own."""
    assert run_script(how, client_secret(azure_emulators)) == ["ok"] * children
