"""lightspeed-stack's own code, as published, on our manager and our holder."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any

import httpx
import pytest
from canary import Canary
from fastapi import FastAPI
from integration_support import MODEL, RUN_CONFIG
from lightspeed_stack_environment import prepare

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.emulators import Emulators

AT_ONCE = 24


@pytest.fixture
def configuration(emulators: Emulators, stack_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """lightspeed-stack's own configuration, of its own model."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", emulators.entra.authority)
    monkeypatch.setenv("AZURE_AUTHORITY_CA_BUNDLE", str(emulators.ca_bundle))
    provider, model = MODEL.split("/")
    return prepare(
        {
            "name": "test",
            "service": {"host": "localhost", "port": 8080},
            "ogx": {"url": stack_url, "api_key": "a-key-of-the-stack"},
            "user_data_collection": {},
            "inference": {"default_provider": provider, "default_model": model},
            "azure_entra_id": {
                "tenant_id": emulators.entra.tenant_id,
                "client_id": emulators.entra.application.client_id,
                "client_secret": emulators.entra.application.client_secret.get_secret_value(),
            },
        }
    )


@pytest.fixture
def manager(configuration: Any) -> Iterator[AzureEntraIDManager]:
    """The process-wide manager, which its code asks for."""
    del configuration
    manager = AzureEntraIDManager.isolated()
    with AzureEntraIDManager.replaced(manager):
        yield manager
    manager.close()


@pytest.fixture
async def its_holder(configuration: Any, manager: AzureEntraIDManager) -> AsyncIterator[Any]:
    """What its lifespan does, in its own words."""
    kind = import_module("client.ogx").AsyncOgxClientHolder
    with kind.replaced(kind.isolated()):
        holder = kind()
        await holder.load(configuration.ogx)
        azure_entra_id_config = configuration.azure_entra_id
        manager.set_config(azure_entra_id_config)
        azure_base_url = await holder.get_azure_base_url()
        manager.set_base_url(azure_base_url)
        yield holder
        await holder.close()


@pytest.fixture
async def service(its_holder: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Its endpoint `/infer`, unchanged, in an application."""
    del its_holder
    app = FastAPI()
    app.include_router(import_module("app.endpoints.rlsapi_v1").router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", timeout=60
    ) as client:
        yield client


async def expired(manager: AzureEntraIDManager) -> None:
    """Wait until the token at hand has expired."""
    while not manager.is_token_expired:  # noqa: ASYNC110 - nothing tells of an expiry
        await asyncio.sleep(0.05)


def provider_of() -> Any:
    """Return what makes an OpenAI client for its agents of a stack's client."""
    return import_module("pydantic_ai_lightspeed.ogx._provider").OgxProvider.from_ogx_client


async def at_expiry(manager: AzureEntraIDManager, emulators: Emulators, crowd: Any) -> None:
    """Let one in, and a crowd when the token has expired: Azure refuses none, and one is renewed."""
    emulators.entra.token_lifetime = 4.0
    await crowd(1)
    await expired(manager)
    emulators.entra.token_lifetime = 3600.0
    before = emulators.entra.requests.issued
    await crowd(AT_ONCE)
    assert emulators.azure.requests.accepted == 1 + AT_ONCE, emulators.azure.requests.by_reason
    assert emulators.azure.requests.rejected == 0, emulators.azure.requests.by_reason
    assert emulators.entra.requests.issued == before + 1


async def test_its_endpoint_loses_nothing_at_expiry(
    service: httpx.AsyncClient, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """Its unchanged endpoint, its unchanged check: all who come when the token has expired get in."""

    async def crowd(size: int) -> None:
        answers = await asyncio.gather(
            *(service.post("/infer", json={"question": f"n{n}"}) for n in range(size))
        )
        assert [answer.status_code for answer in answers] == [200] * size, answers[0].text
        assert all(f"n{n}" in answer.json()["data"]["text"] for n, answer in enumerate(answers))

    await at_expiry(manager, emulators, crowd)


async def test_its_agents_lose_nothing_at_expiry(
    its_holder: Any, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """Its OpenAI client for agents, made of a client that is older than the token, carries the new."""

    async def request(number: int) -> str:
        client = its_holder.get_client()
        await asyncio.sleep(0)  # its endpoints do much between the client and the check
        if manager.is_entra_id_configured and manager.is_token_expired and manager.refresh_token():
            client = await its_holder.update_azure_token()
        answer = await provider_of()(client).client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"n{number}"}]
        )
        return str(answer.choices[0].message.content)

    async def crowd(size: int) -> None:
        answers = await asyncio.gather(*(request(number) for number in range(size)))
        assert all(f"n{number}" in answer for number, answer in enumerate(answers))

    await at_expiry(manager, emulators, crowd)


async def test_the_canary(
    service: httpx.AsyncClient,
    its_holder: Any,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    canary: Canary,
) -> None:
    """What its endpoint answers and logs, its clients and their errors show neither token nor secret."""
    answer = await service.post("/infer", json={"question": "hello"})
    canary.watch(first=manager.access_token.get_secret_value())
    updated = await its_holder.update_azure_token()
    agents = provider_of()(updated)
    emulators.azure.audiences = ["https://another.example"]
    refused = await service.post("/infer", json={"question": "hello"})
    assert (answer.status_code, refused.status_code >= 400) == (200, True)
    with pytest.raises(Exception, match="Access token") as caught:
        await updated.responses.create(model=MODEL, input="hello", stream=False)
    canary.watch(second=manager.access_token.get_secret_value())
    canary.read_error("refused", caught.value)
    canary.read(holder=its_holder, client=updated, agents=agents, agents_client=agents.client)
    for name, sent in {"answer": answer, "refusal": refused}.items():
        canary.texts[name] = f"{sent.text} {sent.headers!r}"


async def test_its_calling_pattern_works_in_library_mode(
    configuration: Any, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """Its model of a stack inside the process is accepted too; nothing is lost, nothing restarted."""
    library = type(configuration.ogx)(
        use_as_library_client=True, library_client_config_path=str(RUN_CONFIG)
    )
    taken = LlamaStackConfiguration.from_object(library)
    assert (taken.use_as_library_client, taken.library_client_config_path) == (True, RUN_CONFIG)
    manager.set_config(configuration.azure_entra_id)
    holder = import_module("client.ogx").AsyncOgxClientHolder.isolated()
    await holder.load(library)
    stack = holder.get_client().stack

    async def by_its_check(number: int) -> Any:
        client = holder.get_client()
        await asyncio.sleep(0)
        if manager.is_entra_id_configured and manager.is_token_expired and manager.refresh_token():
            client = await holder.update_azure_token()
        return await client.responses.create(model=MODEL, input=f"n{number}", stream=False)

    async def by_an_agent(number: int) -> Any:
        provider = provider_of()(await holder.update_azure_token())
        return await provider.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"n{number}"}]
        )

    async def crowd(size: int) -> None:
        await asyncio.gather(*((by_an_agent if n % 2 else by_its_check)(n) for n in range(size)))

    await at_expiry(manager, emulators, crowd)
    assert holder.get_client().stack is stack
    await holder.close()
