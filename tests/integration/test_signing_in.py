"""Each way to sign in leads to an answer through the real Llama Stack."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
from identities import WAYS, Place, Way, assigned, managed_identity_system, system
from integration_support import RUN_CONFIG, ask, ask_streaming, two_providers
from pydantic import SecretStr

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.config import load_configuration
from lightspeed_azure.emulators import Application, Emulators, fingerprint

pytestmark = pytest.mark.integration

PROVIDERS = ("azure-east", "azure-west")


@pytest.fixture
def place(emulators: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place to configure a service in; azure-identity finds the managed-identity endpoint."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulators.imds.endpoint)
    return Place(emulators, tmp_path, monkeypatch)


@asynccontextmanager
async def service(
    place: Place, azure_entra_id: str, llama_stack: str
) -> AsyncIterator[tuple[AzureEntraIDManager, AsyncLlamaStackClientHolder]]:
    """Run what a service runs: the operator's file, a manager, and a client."""
    file = place.file(
        "lightspeed-stack.yaml",
        f"name: somebody else's key\nazure_entra_id:{azure_entra_id}llama_stack:{llama_stack}",
    )
    loaded = load_configuration(file)
    assert loaded.llama_stack is not None
    manager = AzureEntraIDManager.isolated(loaded.azure_entra_id)
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    try:
        await holder.load(loaded.llama_stack)
        yield manager, holder
    finally:
        await holder.close()
        manager.close()


def library(run_config: Path = RUN_CONFIG) -> str:
    """Return the block of a stack inside the process."""
    return f"\n  use_as_library_client: true\n  library_client_config_path: {run_config}\n"


@pytest.fixture(params=["library", "service"])
def llama_stack(request: pytest.FixtureRequest) -> str:
    """The block `llama_stack:`, in each mode."""
    request.getfixturevalue("stack_environment")
    if request.param == "library":
        return library()
    return f"\n  url: {request.getfixturevalue('stack_url')}\n"


def application_of(token: SecretStr) -> str:
    """Return the application that a token was issued to."""
    claims = jwt.decode(token.get_secret_value(), options={"verify_signature": False})
    return str(claims["appid"])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_question_is_answered(
    place: Place, llama_stack: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Plain and streaming, with the token of that identity, and the log names the kind."""
    caplog.set_level(logging.INFO, logger="lightspeed_azure")
    kind, seen = WAYS[way]
    emu = place.emu
    async with service(place, way(place), llama_stack) as (manager, holder):
        assert [line for line in caplog.messages if line.startswith("Tokens come from ")]
        assert "hello" in await ask(holder.get_client(), "hello")
        assert "hello" in await ask_streaming(holder.get_client(), "hello")
        assert manager.identity().config.credential_kind == kind
        application = application_of(manager.access_token)
    asked = emu.azure.requests
    assert (asked.accepted, asked.rejected, len(asked.accepted_by_token)) == (2, 0, 1)
    if seen in {"system", "assigned"}:
        identity = (system if seen == "system" else assigned)(emu)
        assert emu.imds.requests.by_identity == {identity.client_id: 1}
        assert application == identity.client_id
    else:
        assert emu.entra.requests.by_grant == ({} if seen == "az" else {seen: 1})
        assert application == emu.entra.application.client_id


async def test_each_provider_has_the_token_of_its_own_identity(
    place: Place, stack_environment: None, tmp_path: Path
) -> None:
    """Two identities, two `remote::azure` providers, one stack: no request carries the other's."""
    emu = place.emu
    place.set(SQLITE_STORE_DIR=str(tmp_path))  # models stay registered there
    west = emu.entra.register(
        Application(tenant_id=emu.entra.tenant_id, secrets=["the west's own secret"])
    )
    block = (
        f"\n  - provider_id: azure-east\n  {managed_identity_system(place).lstrip(chr(10))}"
        f"  - provider_id: azure-west\n    tenant_id: {west.tenant_id}\n"
        f"    client_id: {west.client_id}\n    client_secret_path: {place.file('w', west.client_secret.get_secret_value())}\n"
        f"    authority_host: {emu.entra.authority}\n    ca_bundle: {emu.ca_bundle}\n"
    )
    async with service(place, block, library(two_providers(tmp_path, PROVIDERS))) as (
        manager,
        holder,
    ):
        client = holder.get_client()
        names = [model.id for model in await client.models.list()]
        assert names == [f"{provider}/gpt-4o-mini" for provider in PROVIDERS]
        tokens = {}
        for provider, times in zip(PROVIDERS, (3, 5), strict=True):
            for number in range(times):
                question = (ask, ask_streaming)[number % 2]
                await question(client, "hello", f"{provider}/gpt-4o-mini")
            token = manager.identity(provider).get_token()
            tokens[provider] = token
            assert (
                emu.azure.requests.accepted_by_token[fingerprint(token.get_secret_value())] == times
            )
        assert sum(emu.azure.requests.accepted_by_token.values()) == 8
    assert application_of(tokens["azure-east"]) == system(emu).client_id
    assert application_of(tokens["azure-west"]) == west.client_id
