"""Keys beside the identities of Entra ID: which of them a request carries."""

import asyncio
import json
import threading
from typing import Any

import pytest
from integration_support import entra_block

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.clients.inference_call import Calls
from lightspeed_azure.clients.stack_catalog import Listing, Provider, StackCatalog
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.keys.provider_credentials import ProviderCredentials


async def carried(
    manager: AzureEntraIDManager, found: ProviderCredentials, provider: Provider
) -> dict[str, Any]:
    """Return the provider data of a question to a provider's model."""
    listing = Listing(
        models={"gpt": provider.provider_id}, providers={provider.provider_id: provider}
    )

    async def asked() -> Listing:
        return listing

    calls = Calls(lambda: manager, StackCatalog(asked), provider_credentials=lambda: found)
    call = await calls.of(
        "POST",
        "/v1/chat/completions",
        {"model": "gpt"},
        default_data={},
        call_data=[],
        stream=False,
    )
    data: dict[str, Any] = json.loads(await call.header() or "{}")
    return data


@pytest.mark.parametrize(
    ("identity", "entry", "is_static"),
    [
        ("azure", {"provider_type": "azure", "source": {"value": "static"}}, False),
        ("other", {"provider_type": "azure", "source": {"value": "static"}}, True),
        (None, {"provider_id": "azure", "source": {"value": "static"}}, True),
        (
            None,
            {"provider_id": "azure", "field": "azure_api_version", "source": {"value": "v1"}},
            False,
        ),
    ],
)
async def test_a_token_or_a_static_key(
    azure_emulators: Emulators, identity: str | None, entry: dict[str, Any], is_static: bool
) -> None:
    """What names the provider wins over what is for many; a field that is no key takes no token away."""
    block = {**entra_block(azure_emulators), **({"provider_id": identity} if identity else {})}
    manager = AzureEntraIDManager.isolated(block)
    azure = Provider("azure", "remote::azure", azure_emulators.azure.base_url)
    data = await carried(manager, ProviderCredentials([entry]), azure)
    token = manager.access_token.get_secret_value()
    assert data["azure_api_key"] == ("static" if is_static else token)
    assert token != "" or is_static
    manager.close()


def test_one_entry_for_providers_with_identities_of_their_own(azure_emulators: Emulators) -> None:
    """Each provider gets its own identity's token, from any thread, and it is fetched once."""
    names = ["one", "two", "three"]
    blocks = [{**entra_block(azure_emulators), "provider_id": name} for name in names]
    manager = AzureEntraIDManager.isolated(blocks)
    scope = {"entra": {"scope": "api://my-vllm/.default"}}
    found = ProviderCredentials(
        [{"provider_type": "vllm", "source": scope}], manager=lambda: manager
    )
    issued = azure_emulators.entra.requests.issued
    seen: dict[str, set[str]] = {name: set() for name in names}

    async def ask(name: str) -> None:
        keys = found.keys(name, "remote::vllm", None, "llama-stack")
        assert keys is not None
        for _ in range(50):
            seen[name].add((await keys.data())["vllm_api_token"])

    threads = [threading.Thread(target=lambda name=name: asyncio.run(ask(name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(tokens) for tokens in seen.values()] == [1, 1, 1]
    assert len(set.union(*seen.values())) == 3
    assert azure_emulators.entra.requests.issued - issued == 3
    found.close()
    manager.close()
