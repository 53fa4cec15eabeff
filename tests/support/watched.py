"""A manager whose identities get their tokens from the test, and the state of a key."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pydantic import SecretStr
from token_cache_fakes import FakeClock, FakeScheduler

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.errors import CredentialRejectedError
from lightspeed_azure.tokens.source import Attempt, IssuedToken

BLOCK = {"tenant_id": "t", "client_secret": "cAn4ry"}


class Source:
    """Gives tokens of an hour, or refuses."""

    def __init__(self) -> None:
        self.refuses = False

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Give one."""
        del attempt
        if self.refuses:
            raise CredentialRejectedError("refused", cure="Renew the secret")
        return IssuedToken(SecretStr("cAn4ry-token"), 3600.0, None)

    def fingerprint(self) -> int:
        """Nothing it signs in with changes."""
        return 0

    def warm_up(self) -> None:
        """Nothing is slow."""

    def hang(self) -> None:
        """Nothing hangs."""


def watched(clock: FakeClock, source: Source, *names: str) -> AzureEntraIDManager:
    """Return a manager whose identities, one a provider, ask the source."""

    def launch(name: str, run: Callable[[], None]) -> None:
        del name
        run()

    blocks = [BLOCK | {"provider_id": name, "client_id": f"c-{name}"} for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightspeed_azure.tokens.manager.credential_source", lambda *_, **__: source)
        return AzureEntraIDManager.isolated(
            blocks, clock=clock, scheduler=FakeScheduler(clock), launch=launch
        )


@dataclass
class Credential:
    """A source of a key, as the sources of other providers' keys tell it."""

    provider_id: str | None = "openai"
    provider_type: str | None = None
    field: str | None = None
    source: str = "file"
    has_value: bool = True
    failures: int = 2
    age: float | None = 12.0
    fault: str = ""
    reloads: int = 3
