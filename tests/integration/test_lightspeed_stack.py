"""lightspeed-stack's own code, as published, on our manager and our holder."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from canary import Canary
from fake_stack import answering, headers_of, serving, stack
from fastapi import FastAPI
from integration_support import MODEL, RUN_CONFIG
from lightspeed_stack_environment import prepare

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
    generate_configuration,
    load_configuration,
)
from lightspeed_azure.emulators import Emulators

AT_ONCE = 24


@pytest.fixture
def configuration(
    emulators: Emulators, stack_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """lightspeed-stack's own configuration, of its own model."""
    monkeypatch.setenv("OTEL_ANONYMIZATION_SECRET", "a secret for names in traces")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", emulators.entra.authority)
    monkeypatch.setenv("AZURE_AUTHORITY_CA_BUNDLE", str(emulators.ca_bundle))
    provider, model = MODEL.split("/")
    return prepare(
        {
            "name": "test",
            "service": {"host": "localhost", "port": 8080},
            "ogx": {"url": stack_url, "api_key": "a-key-of-the-stack"},
            "user_data_collection": {},
            "database": {"sqlite": {"db_path": str(tmp_path / "conversations.db")}},
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
    """Its endpoints, unchanged, in an application."""
    del its_holder
    app = FastAPI()
    for name in ("rlsapi_v1", "query", "streaming_query"):
        app.include_router(import_module(f"app.endpoints.{name}").router)
    database = import_module("app.database")
    database.initialize_database()
    database.create_tables()
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


async def at_expiry(
    manager: AzureEntraIDManager, emulators: Emulators, crowd: Any, *, calls: int = 1
) -> None:
    """Let one in, and a crowd when the token has expired: Azure refuses none, and one is renewed.

    Args:
        manager: whose token expires.
        emulators: Entra ID and Azure.
        crowd: asks so many questions at once.
        calls: how often each question reaches Azure.
    """
    await crowd(1)
    # A busy machine must not let the first question's token expire on the way to Azure.
    manager.identity().cache.invalidate(manager.access_token)
    emulators.entra.token_lifetime = 2.0
    assert await asyncio.to_thread(manager.refresh_token)
    await expired(manager)
    emulators.entra.token_lifetime = 3600.0
    before = emulators.entra.requests.issued
    await crowd(AT_ONCE)
    accepted = calls * (1 + AT_ONCE)
    assert emulators.azure.requests.accepted == accepted, emulators.azure.requests.by_reason
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


@pytest.fixture
def recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change that docs/migrating-from-lightspeed-stack.md recommends, in its other files."""
    provider = import_module("pydantic_ai_lightspeed.ogx._provider").OgxProvider
    holder = import_module("client.ogx").AsyncOgxClientHolder
    monkeypatch.setattr(
        provider, "from_ogx_client", staticmethod(lambda _: provider(**holder().for_agents()))
    )
    for name in ("query", "streaming_query"):  # their check of the token is gone
        module = import_module(f"app.endpoints.{name}")
        monkeypatch.setattr(module, "AzureEntraIDManager", AzureEntraIDManager.isolated)


async def queries(service: httpx.AsyncClient, size: int) -> None:
    """Ask its endpoint `query`, at once; each gets the answer to its own question."""
    answers = await asyncio.gather(
        *(service.post("/query", json={"query": f"n{n}."}) for n in range(size))
    )
    assert [answer.status_code for answer in answers] == [200] * size, answers[0].text
    assert all(f"n{n}." in answer.json()["response"] for n, answer in enumerate(answers))


async def streaming_queries(service: httpx.AsyncClient, size: int) -> None:
    """Ask its endpoint `streaming_query`, at once; each gets the answer to its own question."""
    answers = await asyncio.gather(
        *(service.post("/streaming_query", json={"query": f"n{n}."}) for n in range(size))
    )
    assert [answer.status_code for answer in answers] == [200] * size, answers[0].text
    for n, answer in enumerate(answers):
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        events = {event["event"]: event["data"] for event in map(json.loads, lines)}
        assert "error" not in events, events
        assert f"n{n}." in events["turn_complete"]["token"]


ASKING = pytest.mark.parametrize("ask_at_once", [queries, streaming_queries])
type AskAtOnce = Callable[[httpx.AsyncClient, int], Awaitable[None]]


@ASKING
async def test_its_queries_lose_nothing_at_expiry(
    service: httpx.AsyncClient,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    ask_at_once: AskAtOnce,
) -> None:
    """`query` and `streaming_query`, unchanged: an agent's call, and one for the topic, each."""
    await at_expiry(manager, emulators, lambda size: ask_at_once(service, size), calls=2)


@ASKING
async def test_its_queries_lose_nothing_at_expiry_with_the_change(
    service: httpx.AsyncClient,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    ask_at_once: AskAtOnce,
    recommended: None,
) -> None:
    """The same without their check: the token is looked up when the agent's request is sent."""
    await at_expiry(manager, emulators, lambda size: ask_at_once(service, size), calls=2)


async def test_the_change_sends_the_token_with_azures_models_only(
    configuration: Any, manager: AzureEntraIDManager, recommended: None
) -> None:
    """A request of an agent for another provider's model has no provider data."""
    seen: dict[str, bool] = {}

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json()
        seen[body["model"]] = "x-ogx-provider-data" in headers_of(request)
        return await answering(request)

    manager.set_config(configuration.azure_entra_id)
    kind = import_module("client.ogx").AsyncOgxClientHolder
    async with serving(stack(handler)) as url:
        with kind.replaced(kind.isolated()):
            await kind().load(type(configuration.ogx)(url=url))
            await kind().update_azure_token()
            client = provider_of()(kind().get_client()).client
            for model in (MODEL, "openai/gpt-4o"):
                messages = [{"role": "user", "content": "hello"}]
                await client.chat.completions.create(model=model, messages=messages)
            await kind().close()
    assert seen == {MODEL: True, "openai/gpt-4o": False}


def shapes(url: str) -> dict[str, dict[str, Any]]:
    """Return the shapes of lightspeed-stack.yaml: what its files say of the stack."""
    provider = {"type": "azure", "api_key_env": "AZURE_API_KEY", "allowed_models": ["gpt-4o-mini"]}
    run = yaml.safe_load(RUN_CONFIG.read_text())
    library = {"use_as_library_client": True}
    return {
        "service": {"ogx": {"url": url}},
        "library": {"ogx": {**library, "library_client_config_path": str(RUN_CONFIG)}},
        "profile": {"ogx": {**library, "config": {"profile": "run.yaml"}}},
        "providers": {"ogx": library, "inference": {"providers": [provider]}},
        "profile and providers": {
            "ogx": {**library, "config": {"profile": "run.yaml"}},
            "inference": {"providers": [{**provider, "extra": {"api_version": "v1"}}]},
        },
        "migrated": {
            "ogx": {**library, "config": {"baseline": "empty", "native_override": run}},
        },
    }


@pytest.mark.parametrize("block", ["ogx", "llama_stack"])
@pytest.mark.parametrize("shape", shapes(""))
async def test_each_shape_of_its_file_starts_a_stack_that_answers(
    emulators: Emulators,
    configuration: Any,
    *,
    stack_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    block: str,
) -> None:
    """Its file as it is; the stack gets a token, and no key."""
    root = {
        "name": "Lightspeed Core Service (LCS)",
        "service": {"host": "localhost", "port": 8080, "auth_enabled": False},
        "user_data_collection": {"feedback_enabled": False},
        "authentication": {"module": "noop"},
        **shapes(stack_url)[shape],
        "azure_entra_id": {
            name: f"${{env.{name.upper()}}}" for name in ("tenant_id", "client_id", "client_secret")
        },
    }
    configured = configuration.azure_entra_id
    for name in ("tenant_id", "client_id", "client_secret"):
        monkeypatch.setenv(name.upper(), getattr(configured, name).get_secret_value())
    for name in ("KV_STORE_PATH", "SQL_STORE_PATH", "SQLITE_STORE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    (tmp_path / "sqlite_store_dir").mkdir()
    (tmp_path / "run.yaml").write_text(RUN_CONFIG.read_text())
    model_of_its = type(configuration)(**{**root, "azure_entra_id": configured}).ogx
    if block == "llama_stack":
        root["llama_stack"] = root.pop("ogx")
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(yaml.safe_dump(root))
    loaded = load_configuration(file)
    manager = AzureEntraIDManager.isolated(list(loaded.azure_entra_id))
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    if block == "ogx":
        await holder.load(loaded.llama_stack)
    else:
        monkeypatch.setenv("LIGHTSPEED_STACK_CONFIG_PATH", str(file))
        await holder.load(model_of_its)
    answer = await holder.get_client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": shape}]
    )
    assert shape in answer.choices[0].message.content
    assert emulators.azure.requests.accepted == 1
    assert emulators.azure.requests.rejected == 0
    await holder.close()
    manager.close()


async def test_what_it_synthesizes_starts(
    configuration: Any,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    *,
    tmp_path: Path,
    recommended: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file that its own code writes is enriched; its agents get the token in library mode too."""
    made = yaml.safe_load(RUN_CONFIG.read_text())
    made["providers"]["inference"][0]["config"]["api_key"] = "${env.AZURE_API_KEY}"
    synthesized = tmp_path / "run.yaml"
    synthesized.write_text(yaml.safe_dump(made))
    whole = {"ogx": {"use_as_library_client": True}, "azure_entra_id": {"tenant_id": "t"}}
    generate_configuration(synthesized, tmp_path / "enriched.yaml", whole)
    enriched = yaml.safe_load((tmp_path / "enriched.yaml").read_text())
    assert enriched["providers"]["inference"][0]["config"]["model_validation"] is False
    manager.set_config(configuration.azure_entra_id)
    kind = import_module("client.ogx").AsyncOgxClientHolder
    monkeypatch.setattr(kind, "_synthesize_library_config", lambda _: str(synthesized))
    with kind.replaced(kind.isolated()):
        await kind().load(type(configuration.ogx)(use_as_library_client=True))

        async def crowd(size: int) -> None:
            client = provider_of()(kind().get_client()).client
            messages = [{"role": "user", "content": "hello"}]
            await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=messages)
                    for _ in range(size)
                )
            )

        await at_expiry(manager, emulators, crowd)
        await kind().close()


async def test_plain_http_is_allowed_by_an_argument(configuration: Any) -> None:
    """Its model forbids keys of ours; `load` takes the permission beside it."""
    model = type(configuration.ogx)(url="http://llama-stack:8321")
    kind = import_module("client.ogx").AsyncOgxClientHolder
    holder = kind.isolated()
    with pytest.raises(ValueError, match="would send tokens over plain HTTP to another machine"):
        await holder.load(model)
    assert not holder.is_loaded
    await holder.load(model, allow_insecure=True)
    assert holder.is_loaded
    await holder.close()
