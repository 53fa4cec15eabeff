"""One real stack server, of the family that is installed here, and one set of emulators for all integration tests."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from canary import Canary, watching
from families import FAMILY, OGX
from integration_support import RUN_CONFIG, entra_block
from lightspeed_stack_environment import is_installed

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.emulators import Emulators

MODES = ("service", "library")

collect_ignore = [] if FAMILY is OGX else ["test_ogx.py"]
if not is_installed():
    collect_ignore.append("test_lightspeed_stack.py")


@pytest.fixture(scope="session")
def session_emulators() -> Iterator[Emulators]:
    """The emulators that the stack server knows; their ports stay the same all session."""
    with Emulators() as emulators:
        yield emulators


@pytest.fixture
def emulators(session_emulators: Emulators) -> Iterator[Emulators]:
    """The emulators as new: no faults, tokens that live an hour, counters at nought."""
    session_emulators.reset()
    yield session_emulators
    session_emulators.reset()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def stack_environment(
    session_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """What a stack is given: the Azure endpoint, a folder to write to, and no key."""
    folder = tmp_path_factory.mktemp("stack")
    with _environment(
        {
            "AZURE_API_BASE": session_emulators.azure.base_url,
            "SQLITE_STORE_DIR": str(folder),
            FAMILY.log_format: "json",
        }
    ):
        yield


@pytest.fixture(scope="session")
def stack_url(stack_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real stack in a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("server")
    with asyncio.Runner() as runner:
        running = server(
            FAMILY.command(str(RUN_CONFIG), url),
            health=f"{url}/v1/health",
            folder=folder,
            environment=dict(os.environ) | {"SQLITE_STORE_DIR": str(folder)},
            log=folder / "stack.log",
        )
        runner.run(running.__aenter__())
        yield url
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture(params=MODES)
def stack_config(request: pytest.FixtureRequest) -> LlamaStackConfiguration:
    """How the stack is reached: as a server, or inside this process."""
    if request.param == "service":
        return LlamaStackConfiguration(url=request.getfixturevalue("stack_url"))
    request.getfixturevalue("stack_environment")
    return LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=RUN_CONFIG
    )


@pytest.fixture
def manager(emulators: Emulators) -> Iterator[AzureEntraIDManager]:
    """A manager that signs in at the emulator with a client secret."""
    instance = AzureEntraIDManager.isolated(entra_block(emulators))
    yield instance
    instance.close()


@pytest.fixture
async def holder(
    manager: AzureEntraIDManager, stack_config: LlamaStackConfiguration
) -> AsyncIterator[AsyncLlamaStackClientHolder]:
    """A holder with its client loaded, in each mode."""
    instance = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await instance.load(stack_config)
    yield instance
    await instance.close()


@pytest.fixture
def canary(emulators: Emulators) -> Iterator[Canary]:
    """Watch everything that is logged during a test, and look for secrets in it at the end."""
    with watching() as canary:
        canary.watch(client_secret=emulators.entra.application.client_secret.get_secret_value())
        yield canary
