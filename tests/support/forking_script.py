"""A program that forks around `set_config`; prints one line for each child: `ok`, or what failed.

Reads the `azure_entra_id` block from standard input. The first argument says how it forks.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightspeed_azure.concurrency.fork
from lightspeed_azure import AzureEntraIdConfiguration, AzureEntraIDManager, TokenError
from lightspeed_azure.tokens import entra
from lightspeed_azure.tokens.azure_credential import Credential, ask, import_azure
from lightspeed_azure.tokens.source import Attempt

warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads is the subject

PATIENCE = 60
"""Seconds after which a child counts as stuck; much more than any deadline in it."""


def answer(_: int = 0) -> str:
    """Return `ok` if this process gets a token in a coroutine and on a thread."""
    try:
        if not AzureEntraIDManager().is_entra_id_configured:
            configure()
        token = asyncio.run(AzureEntraIDManager().aget_token())
        AzureEntraIDManager().identity().cache.refresh()
    except Exception as error:  # noqa: BLE001 - it is printed
        return f"{type(error).__name__}: {error}"
    return "ok" if token.get_secret_value() else "an empty token"


def start_child(target: Callable[[], str]) -> int:
    """Fork; the child prints what `target` returns."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        os.write(1, f"{target()}\n".encode())
        os._exit(0)
    return child


def preload() -> None:
    """Configure while the application is loaded, then fork the workers: `gunicorn --preload`."""
    for child in [start_child(answer) for _ in range(2)]:
        os.waitpid(child, 0)


def pool() -> None:
    """Start a pool of processes at once."""
    with multiprocessing.get_context("fork").Pool(4) as workers:
        signal.alarm(PATIENCE)
        for line in workers.map(answer, range(4), chunksize=1):
            os.write(1, f"{line}\n".encode())


def thread() -> None:
    """Fork on another thread, at moments from before the import of azure-identity to after it."""

    def fork_often() -> None:
        children = []
        for _ in range(8):
            children.append(start_child(answer))
            time.sleep(0.1)  # spreads the forks over the import
        for child in children:
            os.waitpid(child, 0)

    forking = threading.Thread(target=fork_often)
    forking.start()
    configure()
    forking.join()


def renewing() -> None:
    """Fork while another thread signs in again and again."""
    manager = AzureEntraIDManager()
    manager.get_token()
    stop = threading.Event()

    def renew() -> None:
        while not stop.is_set():
            manager.identity().cache.refresh()

    renewal = threading.Thread(target=renew)
    renewal.start()
    for _ in range(12):
        os.waitpid(start_child(answer), 0)
    stop.set()
    renewal.join()


def endless() -> None:
    """Fork while the module of a custom credential is imported, which never ends."""
    sys.path.insert(0, sys.argv[2])
    lightspeed_azure.concurrency.fork.LONGEST_WAIT = 0.01
    AzureEntraIDManager().renew_if_due()
    while "endless_import" not in sys.modules:
        time.sleep(0.01)  # waits for another thread
    os.waitpid(start_child(answer), 0)


def imports() -> None:
    """Print the modules that are first imported while azure-identity signs in."""
    config = AzureEntraIdConfiguration.from_object(BLOCK)
    import_azure()
    before: list[set[str]] = []

    def ask_and_note(credential: Credential, scope: str) -> Any:
        before.append(set(sys.modules))
        return ask(credential, scope)

    entra.ask = ask_and_note  # type: ignore[attr-defined]
    with contextlib.suppress(TokenError):
        entra.credential_source(config)(Attempt(timeout=10, sent_at=time.time()))
    os.write(1, f"{sorted(set(sys.modules) - before[0])}\n".encode())


def configure() -> None:
    """Configure as an application does when it is imported."""
    AzureEntraIDManager().set_config(BLOCK)


BLOCK = json.load(sys.stdin)

if __name__ == "__main__":
    how = sys.argv[1]
    if how not in ("thread", "imports"):
        configure()
    {
        "preload": preload,
        "pool": pool,
        "thread": thread,
        "renewing": renewing,
        "endless": endless,
        "imports": imports,
    }[how]()
