"""A real stack starts from the enriched file without any Azure variable; from the original not."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from integration_support import EXAMPLE
from ogx_environment import ogx_program

from lightspeed_azure import generate_configuration
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.demo.scenario import stack_command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

type Command = Callable[[str, str], list[str]]


def ogx_command(config: str, url: str) -> list[str]:
    """Return the command that serves OGX at a loopback URL."""
    return [ogx_program(), "run", config, "--port", url.rpartition(":")[2], "--insecure"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example's run.yaml, but with what insists on a key: `${env.AZURE_API_KEY}`."""
    text = (EXAMPLE / "run.yaml").read_text()
    endpoint = "        base_url: https://x.openai.azure.com/openai/v1\n"
    start, _, rest = text.partition("        base_url:")
    rest = rest.partition("\n")[2]
    key = "        api_key: ${env.AZURE_API_KEY}\n"
    (tmp_path / "run.yaml").write_text(start + endpoint + key + rest)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of Azure's is set."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    logs = {"LLAMA_STACK_LOG_FORMAT": "json", "OGX_LOG_FORMAT": "json"}
    return {**ours, **logs, "SQLITE_STORE_DIR": str(folder)}


def ended(command: Sequence[str], folder: Path) -> str:
    """Run what must end by itself, in failure; return what it printed."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode != 0
    return result.stdout + result.stderr


@pytest.mark.parametrize("command", [stack_command, ogx_command], ids=["llama-stack", "ogx"])
async def test_the_enriched_file_starts_and_the_original_does_not(
    command: Command, folder: Path
) -> None:
    """The stack insists on AZURE_API_KEY before, and serves the Azure model after."""
    url = f"http://127.0.0.1:{free_port()}"
    assert "AZURE_API_KEY" in ended(command("run.yaml", url), folder)
    generate_configuration(folder / "run.yaml", folder / "enriched.yaml", {})
    async with (
        server(
            command("enriched.yaml", url),
            health=f"{url}/v1/health",
            folder=folder,
            environment=environment(folder),
            log=folder / "stack.log",
        ),
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
    ):
        models = (await client.get(f"{url}/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["azure/gpt-4o-mini"]
