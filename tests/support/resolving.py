"""What tests of the resolution hook share: a registry of its own, with a clock that they move."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from token_cache_fakes import FakeClock, FakeScheduler

from lightspeed_azure.keys import ResolverRegistry, registry_replaced
from lightspeed_azure.keys.resolver import Resolver


class Hook:
    """A registry with a fake clock, and no plug-ins but those it is given."""

    def __init__(self, *plug_ins: Any) -> None:
        self.clock = FakeClock()
        self.scheduler = FakeScheduler(self.clock)
        self.registry = ResolverRegistry(
            entry_points=lambda: plug_ins, clock=self.clock, scheduler=self.scheduler
        )

    def registered(self, resolver: object, **settings: Any) -> AbstractContextManager[Resolver]:
        """Register a resolver."""
        return self.registry.registered(resolver, **settings)

    def at_the_deadline[T](self, ask: Callable[[], T], entered: threading.Event) -> T | Exception:
        """Ask on another thread, let the resolver begin, and let its time run out."""
        answers: list[T | Exception] = []

        def run() -> None:
            try:
                answers.append(ask())
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                answers.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert entered.wait(5)
        self.scheduler.advance(5.0)
        thread.join(5)
        return answers[0]


@pytest.fixture(name="hook")
def hook_fixture(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Hook]:
    """Let a hook stand in for the process's; the working directory is empty, and so are variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    hook = Hook()
    with registry_replaced(hook.registry):
        yield hook


class Hanging:
    """A resolver that hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.calls = 0

    def before(self, _: object) -> Any:
        """Hang."""
        self.calls += 1
        self.entered.set()
        self.let_go.wait(20)
        raise RuntimeError("let go")


@dataclass
class ResolverOfMetrics:
    """A resolver, as the metrics read its status."""

    name: str = "vault"
    answers: int = 5
    failures: int = 1
    breaker: str = "open"
