"""Which generation of the stack is in use: as configured, as installed, as the server says."""

import asyncio
import contextlib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from fake_stack import serving

from lightspeed_azure import InvalidConfigurationError, LlamaStackConfiguration
from lightspeed_azure.check import check_library_mode
from lightspeed_azure.clients import generations
from lightspeed_azure.clients.generations import GENERATIONS, LLAMA_STACK, OGX, Generation, in_use
from lightspeed_azure.demo.processes import free_port


class Installed:
    """An environment in which nothing but what a test says can be imported."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        names = [name for each in GENERATIONS for name in (each.client, each.stack)]
        for name in [each for each in sys.modules if each.partition(".")[0] in names]:
            patch.delitem(sys.modules, name)
        import_module("httpcore")  # httpx imports it late
        patch.setattr(sys, "path", [str(folder)])

    def add(self, *packages: str) -> None:
        """Install a package of that name."""
        for package in packages:
            (self.folder / package).mkdir()
            (self.folder / package / "__init__.py").touch()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Neither generation, at first."""
    return Installed(tmp_path, monkeypatch)


def library() -> LlamaStackConfiguration:
    """Return the configuration of a stack inside the process."""
    return LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=Path("run.yaml")
    )


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.family)
async def test_the_one_that_is_installed_is_in_use(
    installed: Installed, generation: Generation
) -> None:
    """Nobody is asked; a folder of that name, without a package in it, does not count."""
    for each in GENERATIONS:
        if each is not generation:
            (installed.folder / each.stack).mkdir()
    installed.add(generation.client, generation.stack)
    url = f"http://127.0.0.1:{free_port()}"
    assert await in_use(LlamaStackConfiguration(url=url)) is generation
    assert await in_use(library()) is generation


def test_the_make_of_a_client_is_seen_without_importing_it(installed: Installed) -> None:
    """The client of OGX 1.0 was made by Stainless, as Llama Stack's; later ones are generated."""
    installed.add(*(each.client for each in GENERATIONS))
    assert LLAMA_STACK.clients.endswith(".stainless_clients")
    assert OGX.clients.endswith(".ogx_clients")
    (installed.folder / OGX.client / "_base_client.py").touch()
    assert OGX.clients.endswith(".stainless_clients")
    assert not {OGX.client, LLAMA_STACK.client} & set(sys.modules)


@pytest.mark.parametrize(
    ("answer", "generation"),
    [
        ({"version": "0.7.3"}, LLAMA_STACK),
        ({"version": "v0.7.3"}, LLAMA_STACK),
        ({"version": "1.5.0"}, OGX),
        ({"version": "2.0.0.dev1"}, OGX),
        ({"version": "unknown"}, OGX),
        ({}, OGX),
        ([], OGX),
    ],
)
async def test_the_server_says_which_client_it_needs(
    installed: Installed, answer: object, generation: Generation
) -> None:
    """Where both clients are; what says nothing is taken for the newer."""
    installed.add(*(each.client for each in GENERATIONS))
    asked: list[str] = []

    async def version(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response(answer)

    async with serving(version) as url:
        assert await in_use(LlamaStackConfiguration(url=url)) is generation
        assert asked == ["/v1/version"]
        for each in GENERATIONS:
            assert (
                await in_use(LlamaStackConfiguration(url=url, family=cast(Any, each.family)))
                is each
            )
    assert asked == ["/v1/version"], "what is configured is not asked for"
    assert await in_use(LlamaStackConfiguration(url=url)) is OGX


async def test_the_question_follows_a_redirect_and_takes_no_longer_than_its_limit(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client itself follows; a server that drips its answer is taken for the newer."""
    installed.add(*(each.client for each in GENERATIONS))

    async def version(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/moved/v1/version":
            return web.json_response({"version": "0.7.3"})
        if request.path == "/v1/version":
            return web.Response(status=308, headers={"Location": "/moved/v1/version"})
        drip = web.StreamResponse()
        await drip.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await drip.write(b" ")
                await asyncio.sleep(0.01)
        return drip

    async with serving(version) as url:
        assert await in_use(LlamaStackConfiguration(url=url)) is LLAMA_STACK
        monkeypatch.setattr(generations, "VERSION_LIMIT", 0.1)
        assert await in_use(LlamaStackConfiguration(url=f"{url}/dripping")) is OGX


@pytest.mark.parametrize("family", ["ogx", "llama-stack", None])
async def test_what_is_not_installed_is_a_clear_error(
    installed: Installed, family: str | None
) -> None:
    """It names the packages that would do, and what to install."""
    wanted = [each for each in GENERATIONS if family in (None, each.family)]
    installs = ", or ".join(f"pip install 'lightspeed-azure[{each.extra}]'" for each in wanted)
    config = LlamaStackConfiguration(url="https://stack", family=cast("Any", family))
    with pytest.raises(InvalidConfigurationError) as caught:
        await in_use(config)
    clients = " or ".join(each.client for each in wanted)
    assert str(caught.value) == f"Service mode needs {clients}, which is not installed; {installs}"
    with pytest.raises(InvalidConfigurationError) as caught:
        await in_use(library().model_copy(update={"family": family}))
    stacks = " or ".join(each.stack for each in wanted)
    assert str(caught.value) == (
        f"Library mode needs {stacks}, which is not installed; {installs}, or set url and "
        "use_as_library_client: false"
    )


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.family)
async def test_check_asks_for_the_generation_in_use(
    installed: Installed, generation: Generation
) -> None:
    """In library mode the doctor looks for the stack that is installed, whichever it is."""
    installed.add(generation.stack)
    finding = check_library_mode(library())
    assert finding.found == (
        f"{generation.title} of an unknown version inside the service, from run.yaml; "
        "not started here"
    )
    other = next(each for each in GENERATIONS if each is not generation)
    finding = check_library_mode(library().model_copy(update={"family": other.family}))
    assert (finding.state, finding.found, finding.cure) == (
        "failed",
        f"Library mode needs {other.stack}, which is not installed",
        f"pip install 'lightspeed-azure[{other.extra}]', or set url and use_as_library_client: false",
    )


def test_a_family_that_nobody_knows_is_a_clear_error() -> None:
    """It names the two."""
    with pytest.raises(InvalidConfigurationError, match="must be one of llama-stack, ogx"):
        LlamaStackConfiguration(url="https://stack", family=cast("Any", "llama"))
