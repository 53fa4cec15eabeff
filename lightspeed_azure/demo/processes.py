"""The servers of the demo: real ones, each in its own process group, none left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from lightspeed_azure.errors import LightspeedAzureError

START_LIMIT = 90.0
"""Seconds that a server may take until it answers; importing llama-stack alone takes several."""

STOP_LIMIT = 5.0
"""Seconds between asking a server to end and making it."""


class ServerError(LightspeedAzureError):
    """A server of the demo did not start; the text holds the end of what it printed."""


@asynccontextmanager
async def server(
    command: Sequence[str],
    *,
    health: str,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    ca_bundle: Path | None = None,
) -> AsyncIterator[None]:
    """Run a server until the block ends; enter the block when it answers.

    Args:
        command: the program and its arguments.
        health: the URL that answers 200 when the server is up.
        folder: where it runs.
        environment: its whole environment.
        log: takes what it prints.
        ca_bundle: whom to trust where it answers over TLS.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            await _until_healthy(process, health, log, ca_bundle)
            yield
        finally:
            await _end(process)


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_healthy(
    process: asyncio.subprocess.Process, health: str, log: Path, ca_bundle: Path | None
) -> None:
    limit = time.monotonic() + START_LIMIT
    verify = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else True
    async with httpx.AsyncClient(trust_env=False, timeout=5, verify=verify) as client:
        while process.returncode is None and time.monotonic() < limit:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(health)).is_success:
                    return
            await asyncio.sleep(0.1)
    printed = await asyncio.to_thread(log.read_text, errors="replace")
    tail = "\n".join(printed.splitlines()[-15:])
    what = "did not answer in time" if process.returncode is None else "ended"
    raise ServerError(f"A server of the demo {what}; the end of what it printed:\n{tail}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT):
                await process.wait()
                return
