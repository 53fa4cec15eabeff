"""The story of the demo: emulators, configuration, a real stack, the example service, a crowd."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from lightspeed_azure.demo.crowd import ask_for, ask_once
from lightspeed_azure.demo.processes import ServerError, free_port, server
from lightspeed_azure.demo.screen import Screen
from lightspeed_azure.demo.verdict import Promise, judge
from lightspeed_azure.demo.watch import Watch
from lightspeed_azure.emulators import Emulators, Fault

LIBRARY, SERVICE = "library", "service"
MODES = (LIBRARY, SERVICE)

KEY_VARIABLES = ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_API_KEY")
"""What could let a stack reach Azure without a token; none of them reaches it here."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the demo runs.

    Attributes:
        seconds: how long the crowd asks, in each mode.
        token_lifetime: seconds that a token lives.
        modes: which modes, in their order.
        keep: leave the last mode running until Ctrl-C.
        break_renewals: let Entra ID refuse every renewal, to see the demo fail.
    """

    seconds: float = 20.0
    token_lifetime: float = 10.0
    modes: Sequence[str] = MODES
    keep: bool = False
    break_renewals: bool = False


async def tell(options: Options, screen: Screen) -> bool:
    """Tell the whole story; True when every promise was kept.

    Raises:
        ServerError: a real server of the demo did not start.
    """
    results: list[tuple[str, tuple[Promise, ...]]] = []
    with (
        Emulators(token_lifetime=options.token_lifetime) as emulators,
        tempfile.TemporaryDirectory(prefix="lightspeed-azure-demo-") as folder,
    ):
        screen.say(
            f"Entra ID emulator at {emulators.entra.authority}, tokens live "
            f"{options.token_lifetime:.0f} s; Azure OpenAI emulator at {emulators.azure.base_url}, "
            "which accepts nothing but valid tokens"
        )
        for mode in options.modes:
            home = example_service(Path(folder) / mode, library=mode == LIBRARY)
            keep = options.keep and mode == options.modes[-1]
            promises = await _mode(mode, replace(options, keep=keep), screen, emulators, home)
            results.append((mode, promises))
    screen.summary(results)
    return all(promise.kept for _, promises in results for promise in promises)


async def _mode(
    mode: str, options: Options, screen: Screen, emulators: Emulators, home: Path
) -> tuple[Promise, ...]:
    environment = _environment(emulators, home)
    emulators.entra.clear_faults()
    await enrich(home, environment)
    async with _stack_and_service(mode, home, environment, screen) as service:
        watch = Watch(mode, emulators, options.seconds)
        await ask_once(service, watch.tally)
        if options.break_renewals:
            emulators.entra.fault(Fault.status(503))
        with screen.live():
            looking = asyncio.create_task(watch.look(service, screen.show))
            try:
                await ask_for(options.seconds, service, watch.tally)
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
        async with httpx.AsyncClient(base_url=service, trust_env=False) as client:
            await watch.glance(client)
        promises = judge(watch, stack_has_key=_has_key(environment, home))
        screen.say(f"{mode} mode: {'every promise kept' if _kept(promises) else 'NOT well'}")
        if options.keep:
            await _stay(service, emulators, screen)
    return promises


@asynccontextmanager
async def _stack_and_service(
    mode: str, home: Path, environment: dict[str, str], screen: Screen
) -> AsyncIterator[str]:
    """Run the stack (inside the service, or as a server of its own) and the service; yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = server(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"],
        health=f"{url}/openapi.json",
        folder=home,
        environment=environment,
        log=home / "service.log",
    )
    if mode == LIBRARY:
        screen.say("library mode: a real Llama Stack inside the example service …")
        async with service:
            yield url
        return
    screen.say("service mode: a real Llama Stack in a process of its own, then the service …")
    stack_url = environment["LLAMA_STACK_URL"]
    async with (
        server(
            stack_command("enriched.yaml", stack_url),
            health=f"{stack_url}/v1/health",
            folder=home,
            environment=environment,
            log=home / "stack.log",
        ),
        service,
    ):
        yield url


def stack_command(config: str, url: str) -> list[str]:
    """Return the command that serves a stack at a loopback URL."""
    llama = [sys.executable, "-m", "llama_stack.cli.llama"]
    return [*llama, "stack", "run", config, "--port", url.rpartition(":")[2]]


def example_service(home: Path, *, library: bool) -> Path:
    """Copy the example service, and switch its mode in lightspeed-stack.yaml.

    Returns:
        The folder that it runs in.
    """
    shutil.copytree(_example(), home, ignore=shutil.ignore_patterns("__pycache__", "*.db"))
    file = home / "lightspeed-stack.yaml"
    switched = f"use_as_library_client: {str(library).lower()}"
    file.write_text(file.read_text().replace("use_as_library_client: true", switched))
    return home


async def enrich(home: Path, environment: dict[str, str]) -> None:
    """Enrich the service's run.yaml, as an operator would.

    Raises:
        ServerError: the command failed; the text is what it said.
    """
    enrich_command = [sys.executable, "-m", "lightspeed_azure", "enrich", "run.yaml"]
    log = home / "enrich.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *enrich_command,
            "-o",
            "enriched.yaml",
            cwd=home,
            env=environment,
            stdout=out,
            stderr=out,
        )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:  # interrupted
                process.kill()
                await process.wait()
    if code:
        raise ServerError(await asyncio.to_thread(log.read_text, errors="replace"))


def _example() -> Path:
    """Return where the example service is: in the wheel, or in the checkout."""
    packaged = Path(__file__).with_name("service")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples" / "service"


def _environment(emulators: Emulators, home: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    for name in KEY_VARIABLES:
        ours.pop(name, None)
    return {
        **ours,
        **emulators.environment(),
        "LLAMA_STACK_URL": f"http://127.0.0.1:{free_port()}",
        "LLAMA_STACK_LOG_FORMAT": "json",
        "SQLITE_STORE_DIR": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
    }


def _has_key(environment: dict[str, str], home: Path) -> bool:
    return any(environment.get(name) for name in KEY_VARIABLES) or (
        "api_key" in (home / "enriched.yaml").read_text()
    )


def _kept(promises: tuple[Promise, ...]) -> bool:
    return all(promise.kept for promise in promises)


async def _stay(service: str, emulators: Emulators, screen: Screen) -> None:
    """Leave all running until Ctrl-C."""
    screen.say(
        "Left running; try:\n"
        f"  curl -s {service}/query -H 'Content-Type: application/json' "
        """-d '{"query": "Who are you?"}'\n"""
        f"  curl -sN {service}/query/stream -H 'Content-Type: application/json' "
        """-d '{"query": "Who are you?"}'\n"""
        f"  curl -s {service}/readyz\n"
        f"Azure without a token: curl -si {emulators.azure.base_url}/models\n"
        "Ctrl-C ends it."
    )
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
