"""Forked processes: no lock, thread or import of the parent keeps a child from working."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from entra_material import Certificate
from forking import in_fork
from integration_support import entra_block
from signing_in import attempt

import lightspeed_azure
from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIdConfiguration,
    AzureEntraIDManager,
)
from lightspeed_azure.concurrency.fork import ForkLock, Imports
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.tokens.entra import CredentialSource, credential_source

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

SCRIPT = Path(__file__).parents[1] / "support" / "forking_script.py"

PACKAGE = Path(lightspeed_azure.__file__).parent


def run_script(
    arguments: list[str], block: dict[str, object], environment: dict[str, str] | None = None
) -> list[str]:
    """Run the script; return what it and its children printed."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        input=json.dumps(block),
        env={**os.environ, **(environment or {})},
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
    assert run_script([how], client_secret(azure_emulators)) == ["ok"] * children


def test_a_fork_that_could_not_wait_is_named_in_the_childs_error(tmp_path: Path) -> None:
    """The import of a custom credential never ends: the child says why it gets no token."""
    (tmp_path / "endless_import.py").write_text("import threading; threading.Event().wait()\n")
    block = {"credential": "endless_import:factory", "deadline": 0.5}
    script = ["endless", str(tmp_path)]
    (said,) = run_script(script, block)
    assert said == (
        "TokenUnavailableError: No answer about a token for azure within 0.5 s: this process was "
        "forked while endless_import was being imported. Restart it; fork later, or import the "
        "module before the fork"
    )


@pytest.mark.parametrize("kind", ["secret", "certificate", "managed_identity", "default", "cli"])
def test_signing_in_imports_nothing_once_azure_identity_is_imported(
    azure_emulators: Emulators, tmp_path: Path, kind: str
) -> None:
    """A fork waits for known imports only, so a flight must make no others."""
    block = client_secret(azure_emulators)
    secret = block.pop("client_secret")
    if kind == "certificate":
        (tmp_path / "certificate.pem").write_bytes(Certificate().pem())
    keys: dict[str, dict[str, object]] = {
        "secret": {"client_secret": secret},
        "certificate": {"certificate_path": str(tmp_path / "certificate.pem")},
        "managed_identity": {"managed_identity": "system"},
        "default": {"default": True},
        "cli": {"azure_cli": True},
    }
    if kind in ("managed_identity", "default", "cli"):
        block = {name: block[name] for name in ("authority_host", "ca_bundle")}
    environment = azure_emulators.environment()
    assert run_script(["imports"], {**block, **keys[kind]}, environment) == ["[]"]


def test_every_lock_is_free_in_a_child() -> None:
    """A lock that is no `ForkLock` belongs to an object that a child drops or resets."""
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if re.search(r"\b(threading|asyncio)\.(R?Lock|Condition|Semaphore)\(", file.read_text())
    }
    assert {each for each in found if not each.startswith(("emulators/", "demo/"))} == {
        "clients/holder.py",  # replaced
        "concurrency/fork.py",
        "keys/runner.py",  # replaced
        "keys/bounded_adapter.py",  # dropped with the session
        "concurrency/single_flight.py",  # dropped
        "concurrency/workers.py",  # dropped by the runner
        "concurrency/timer.py",  # replaced
        "transports/sync_source.py",  # dropped with the portal
    }


def test_a_lock_is_free_in_the_child_unless_the_forking_thread_holds_it() -> None:
    """A lock of another thread is replaced; one of this thread stays locked and is released once."""
    lock, held, release = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)

    def child() -> bool:
        with lock:
            return True

    assert in_fork(child)
    release.set()
    thread.join(30)

    def own() -> bool:
        with lock:  # re-entrant, as before the fork
            return True

    with lock:
        assert in_fork(own)


class Importing:
    """An import on another thread that lasts until it is told to end."""

    def __init__(self, imports: Imports, module: str) -> None:
        self.ended = threading.Event()
        begun = threading.Event()

        def run() -> None:
            with imports.running(module):
                begun.set()
                self.ended.wait(30)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        begun.wait(30)

    def end(self) -> None:
        """Let it end."""
        self.ended.set()
        self.thread.join(30)


def test_a_fork_waits_for_an_import_on_another_thread() -> None:
    """The fork goes on when the import has ended, and the child can import the module."""
    imports = Imports()
    other = Importing(imports, "slow_module")
    forked = threading.Event()

    def fork() -> None:
        imports.before_fork()
        forked.set()
        imports.after_fork_in_parent()

    thread = threading.Thread(target=fork, daemon=True)
    thread.start()
    assert not forked.wait(0.05)
    other.end()
    assert forked.wait(30)
    thread.join(30)
    imports.after_fork()
    assert imports.interrupted == frozenset()


def test_a_fork_waits_for_a_hanging_import_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child knows what was interrupted; later forks do not wait for it again."""
    monkeypatch.setattr("lightspeed_azure.concurrency.fork.LONGEST_WAIT", 0.01)
    imports = Imports()
    Importing(imports, "endless_module")
    imports.before_fork()
    imports.after_fork_in_parent()
    monkeypatch.setattr("lightspeed_azure.concurrency.fork.LONGEST_WAIT", 1000.0)
    imports.before_fork()
    imports.after_fork_in_parent()
    imports.after_fork()
    assert imports.interrupted == {"endless_module"}


def test_a_fork_inside_an_import_does_not_wait_for_itself() -> None:
    """A module that forks while it is imported is not interrupted by that."""
    imports = Imports()
    with imports.running("forking_module"):
        imports.before_fork()
        imports.after_fork_in_parent()
        imports.after_fork()
    assert imports.interrupted == frozenset()


class OfProcess:
    """A credential whose tokens name the process that made it."""

    def __init__(self) -> None:
        self.made_by = os.getpid()

    def get_token(self, *_: str) -> SimpleNamespace:
        """Return a token."""
        return SimpleNamespace(token=str(self.made_by), expires_on=time.time() + 600)


def of_process(factory: str = "OfProcess") -> CredentialSource:
    """Return a source with that credential."""
    config = AzureEntraIdConfiguration(environ={}, credential=f"{__name__}:{factory}")
    return credential_source(config)


def test_a_child_makes_a_kept_credential_of_its_own() -> None:
    """Parent and child would otherwise read each other's answers from one connection."""
    source = of_process()
    assert source(attempt()).secret.get_secret_value() == str(os.getpid())

    def child() -> bool:
        return source(attempt()).secret.get_secret_value() == str(os.getpid())

    assert in_fork(child)
    assert source(attempt()).secret.get_secret_value() == str(os.getpid())


def test_a_child_forked_while_a_credential_is_made_makes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The factory of a custom credential runs on another thread, and no lock is held meanwhile."""
    parent, making, release = os.getpid(), threading.Event(), threading.Event()

    def slow_in_the_parent() -> OfProcess:
        made = OfProcess()
        if made.made_by == parent:
            making.set()
            release.wait(30)
        return made

    monkeypatch.setattr(sys.modules[__name__], "factory", slow_in_the_parent, raising=False)
    source = of_process("factory")
    thread = threading.Thread(target=source, args=(attempt(),), daemon=True)
    thread.start()
    assert making.wait(30)
    try:
        assert in_fork(lambda: source(attempt()).secret.get_secret_value() == str(os.getpid()))
    finally:
        release.set()
        thread.join(30)


def test_a_child_of_a_holder_loads_a_client_of_its_own() -> None:
    """The connections and the event loop of the parent's client are the parent's."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=AzureEntraIDManager.isolated())
    asyncio.run(holder.load({"url": "http://127.0.0.1:9"}))
    client = holder.get_client()

    def child() -> tuple[bool, bool]:
        unloaded = not holder.is_loaded
        return unloaded, asyncio.run(holder.ensure_loaded()) is not client

    assert in_fork(child) == (True, True)
    assert holder.get_client() is client


def test_a_child_of_a_holder_that_was_loading_can_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The asyncio lock that a task of the parent holds does not block the child."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=AzureEntraIDManager.isolated())

    async def fork_while_loading() -> bool:
        loading = asyncio.create_task(holder.load({"url": "http://127.0.0.1:9"}))
        await asyncio.sleep(0)
        forked = in_fork(load_in_another_loop)
        await loading
        return forked

    def load_in_another_loop() -> bool:
        def run() -> None:
            asyncio.run(holder.load({"url": "http://127.0.0.1:9"}))

        thread = threading.Thread(target=run)  # this thread's own loop is running
        thread.start()
        thread.join(30)
        return holder.is_loaded

    assert asyncio.run(fork_while_loading())
