"""A service whose configuration is broken does not start, and starts nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_configurations import CANARY, CASES, ENVIRON, write_bad_files
from fastapi import FastAPI

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.fastapi import lifespan

pytestmark = pytest.mark.integration

_STARTS = (
    "_thread.start_new_thread",
    "_thread.start_joinable_thread",
    "os.fork",
    "os.posix_spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
)
"""What Python says to an audit hook when something starts: https://peps.python.org/pep-0578/."""


class Audit:
    """Notes what this process starts, while it listens; a hook of Python's cannot be removed."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.listening = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if self.listening and event in _STARTS:
            self.started.append(event)


@pytest.fixture(scope="module", name="audit_hook")
def _audit_hook() -> Audit:
    return Audit()


@pytest.fixture(name="audit")
def _audit(audit_hook: Audit) -> Iterator[Audit]:
    audit_hook.started.clear()
    audit_hook.listening = True
    yield audit_hook
    audit_hook.listening = False


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of files that are no good, in an environment that helps nobody."""
    write_bad_files(tmp_path)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
async def test_a_service_does_not_start(
    case: tuple[str, int, str, str], folder: Path, audit: Audit
) -> None:
    """Its lifespan raises the one clear message; no thread, process or connection was begun."""
    text, line, _, words = case
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text.replace("{tmp}", str(folder)))
    with pytest.raises(InvalidConfigurationError) as caught:
        async with lifespan(file)(FastAPI()):
            pytest.fail("it started")
    assert audit.started == []
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)


async def test_what_starts_is_noticed(audit: Audit, tmp_path: Path) -> None:
    """The same with a good file begins at least a thread, so that the test above can fail."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(
        "azure_entra_id:\n  managed_identity: system\nllama_stack:\n  url: http://localhost:1\n"
    )
    async with lifespan(file)(FastAPI()):
        pass
    assert audit.started
