"""What the package promises, by its public names alone, on a real Llama Stack or OGX.

The file shares no code with other tests. It stays as it is while everything behind the public names
changes.
"""

import asyncio
import copy
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AsyncOgxClientHolder,
    AzureEntraIdConfiguration,
    AzureEntraIDManager,
    Configuration,
    LlamaStackConfiguration,
    enrich_azure_entra_id_inference,
    generate_configuration,
)
from lightspeed_azure.emulators import Emulators, fingerprint
from lightspeed_azure.fastapi import ClientDep, lifespan

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

OGX = importlib.util.find_spec("ogx") is not None
HEADER = "X-OGX-Provider-Data" if OGX else "X-LlamaStack-Provider-Data"
MODEL = "azure/gpt-4o-mini"
START_LIMIT = 120.0


@pytest.fixture(scope="module")
def services() -> Iterator[Emulators]:
    """Emulators of Entra ID and Azure OpenAI."""
    with Emulators() as emulators:
        yield emulators


@pytest.fixture(autouse=True)
def emulators(services: Emulators, monkeypatch: pytest.MonkeyPatch) -> Emulators:
    """The emulators as if newly started, and an environment without any Azure variable."""
    services.reset()
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    return services


def stack_configuration(azure_base_url: str, folder: Path) -> dict[str, Any]:
    """Return a stack's configuration with an Azure provider and no key."""
    keys_and_values = {"backend": "kv_default"}
    tables = {"backend": "sql_default"}
    return {
        "version": 2,
        "distro_name": "azure",
        "apis": ["inference"],
        "providers": {
            "inference": [
                {
                    "provider_id": "azure",
                    "provider_type": "remote::azure",
                    "config": {"base_url": azure_base_url},
                }
            ]
        },
        "registered_resources": {
            "models": [
                {
                    "model_id": "gpt-4o-mini",
                    "provider_id": "azure",
                    "provider_model_id": "gpt-4o-mini",
                    "model_type": "llm",
                }
            ]
        },
        "storage": {
            "backends": {
                "kv_default": {"type": "kv_sqlite", "db_path": str(folder / "kv.db")},
                "sql_default": {"type": "sql_sqlite", "db_path": str(folder / "sql.db")},
            },
            "stores": {
                "metadata": keys_and_values | {"namespace": "registry"},
                "inference": tables
                | {"table_name": "inference_store", "max_write_queue_size": 100, "num_writers": 1},
                "conversations": tables | {"table_name": "conversations"},
                "prompts": keys_and_values | {"namespace": "prompts"},
                "connectors": keys_and_values | {"namespace": "connectors"},
            },
        },
    }


def write_stack_configuration(azure_base_url: str, folder: Path) -> Path:
    """Write a stack's configuration into a folder."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(stack_configuration(azure_base_url, folder)))
    return path


@pytest.fixture(scope="module")
def stack_url(services: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stack server that was started from the enriched configuration, without any key."""
    folder = tmp_path_factory.mktemp("server")
    original = write_stack_configuration(services.azure.base_url, folder)
    generate_configuration(original, folder / "enriched.yaml", {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = str(Path(sys.executable).with_name("ogx" if OGX else "llama"))
    command = [program, "run"] if OGX else [program, "stack", "run"]
    insecure = ["--insecure"] if OGX else []
    environment = {name: value for name, value in os.environ.items() if "AZURE" not in name}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "enriched.yaml", "--port", port, *insecure],
            cwd=folder,
            env=environment | {"LLAMA_STACK_LOG_FORMAT": "json", "OGX_LOG_FORMAT": "json"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + START_LIMIT
        while not answers(f"http://127.0.0.1:{port}/v1/health"):
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < limit, (folder / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    """Return whether a GET request is answered with 200."""
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def identity(emulators: Emulators) -> AzureEntraIdConfiguration:
    """The identity that the emulator of Entra ID knows."""
    application = emulators.entra.application
    return AzureEntraIdConfiguration(
        tenant_id=application.tenant_id,
        client_id=application.client_id,
        client_secret=application.client_secret,
        authority_host=emulators.entra.authority,
        ca_bundle=emulators.ca_bundle,
    )


@pytest.fixture(params=["service", "library"])
def llama_stack(request: pytest.FixtureRequest, tmp_path: Path) -> LlamaStackConfiguration:
    """Both modes: a stack that is a server, and one inside this process."""
    if request.param == "service":
        return LlamaStackConfiguration(url=request.getfixturevalue("stack_url"))
    services: Emulators = request.getfixturevalue("services")
    return LlamaStackConfiguration(
        use_as_library_client=True,
        library_client_config_path=write_stack_configuration(services.azure.base_url, tmp_path),
    )


@pytest.fixture
def manager() -> Iterator[AzureEntraIDManager]:
    """The manager of the process, as new."""
    instance = AzureEntraIDManager.isolated()
    with AzureEntraIDManager.replaced(instance):
        yield AzureEntraIDManager()
    instance.close()


@pytest.fixture
async def holder(
    manager: AzureEntraIDManager,
    identity: AzureEntraIdConfiguration,
    llama_stack: LlamaStackConfiguration,
) -> AsyncIterator[AsyncLlamaStackClientHolder]:
    """The holder of the process with its client loaded, and the manager configured."""
    instance = AsyncLlamaStackClientHolder.isolated()
    with AsyncLlamaStackClientHolder.replaced(instance):
        manager.set_config(identity)
        await AsyncLlamaStackClientHolder().load(llama_stack)
        yield AsyncLlamaStackClientHolder()
        await instance.close()


async def ask(client: Any, question: str, **options: Any) -> str:
    """Ask a question and return the answer."""
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], **options
    )
    return str(answer.choices[0].message.content)


async def ask_streaming(client: Any, question: str) -> str:
    """Ask a question and return its streamed answer."""
    chunks = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True
    )
    parts = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
    return "".join(parts)


def default_headers(client: Any) -> dict[str, str]:
    """Return the headers that a client of a server sends with each request."""
    return dict(client.api_client.default_headers if OGX else client.default_headers)


def shown(client: Any) -> dict[str, Any]:
    """Return the provider data that a client shows: in its header, or in `provider_data`."""
    data = getattr(client, "provider_data", None)
    if data is None:
        data = json.loads(default_headers(client).get(HEADER, "{}"))
    return dict(data)


def test_there_is_one_manager_and_one_holder_a_process() -> None:
    """The constructors return the same instance each time."""
    assert AzureEntraIDManager() is AzureEntraIDManager()
    assert AsyncLlamaStackClientHolder() is AsyncLlamaStackClientHolder()
    assert AsyncOgxClientHolder is AsyncLlamaStackClientHolder


def test_the_manager_holds_the_token_as_a_secret(
    manager: AzureEntraIDManager, identity: AzureEntraIdConfiguration, emulators: Emulators
) -> None:
    """It fetches nothing by itself, and no text of it shows the token."""
    assert manager is AzureEntraIDManager()
    assert not manager.is_entra_id_configured
    assert manager.build_azure_provider_data() is None
    with pytest.raises(ValueError, match="not configured"):
        manager.refresh_token()

    manager.set_config(identity)
    manager.set_base_url("https://example.openai.azure.com/openai/v1")
    assert manager.is_entra_id_configured
    assert manager.is_token_expired
    assert manager.access_token == SecretStr("")
    assert manager.build_azure_provider_data() is None
    assert emulators.entra.requests.requested == 0

    assert manager.refresh_token() is True
    assert not manager.is_token_expired
    assert isinstance(manager.access_token, SecretStr)
    token = manager.access_token.get_secret_value()
    assert token
    assert manager.get_token() == manager.access_token
    assert manager.build_azure_provider_data() == {
        "azure_api_key": token,
        "azure_api_base": "https://example.openai.azure.com/openai/v1",
    }
    assert token not in f"{manager} {manager!r} {manager.access_token} {manager.access_token!r}"
    assert token not in f"{manager.build_azure_provider_data()!r}"
    assert emulators.entra.requests.issued == 1


async def test_the_manager_serves_threads_and_coroutines_alike(
    manager: AzureEntraIDManager, identity: AzureEntraIdConfiguration, emulators: Emulators
) -> None:
    """All of them share one token request."""
    manager.set_config(identity)
    tokens = await asyncio.gather(
        *(asyncio.to_thread(manager.get_token) for _ in range(4)),
        *(manager.aget_token() for _ in range(4)),
    )
    assert tokens == [manager.access_token] * 8
    assert emulators.entra.requests.requested == 1


async def test_nothing_is_fetched_at_start_up(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Configuring the manager and loading the client ask Entra ID and Azure for nothing."""
    client = holder.get_client()
    await asyncio.sleep(0.3)  # a request from the background would have arrived
    assert emulators.entra.requests.requested == 0
    assert emulators.azure.requests.total == 0
    await ask(client, "hello")
    assert emulators.entra.requests.requested == 1
    assert emulators.azure.requests.total == 1


async def test_both_modes_answer(
    holder: AsyncLlamaStackClientHolder,
    llama_stack: LlamaStackConfiguration,
    manager: AzureEntraIDManager,
    emulators: Emulators,
) -> None:
    """Plain and streamed answers come from Azure, which saw the manager's token."""
    assert holder.is_library_client is llama_stack.use_as_library_client
    client = holder.get_client()
    assert "hello" in await ask(client, "hello")
    assert "goodbye" in await ask_streaming(client, "goodbye")
    token = manager.access_token.get_secret_value()
    assert emulators.azure.requests.accepted_by_token == {fingerprint(token): 2}
    assert emulators.azure.requests.rejected == 0
    assert await holder.get_azure_base_url() == emulators.azure.base_url


async def test_a_request_carries_the_token_that_is_current_when_it_is_sent(
    holder: AsyncLlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """A client that was made before a refresh sends the new token without being rebuilt."""
    client = holder.get_client()
    await ask(client, "before")
    first = manager.access_token.get_secret_value()
    assert await asyncio.to_thread(manager.refresh_token)
    second = manager.access_token.get_secret_value()
    assert first != second
    emulators.azure.revoke(first)
    await ask(client, "after")
    assert emulators.azure.requests.accepted_by_token == {
        fingerprint(first): 1,
        fingerprint(second): 1,
    }
    assert emulators.azure.requests.rejected == 0


async def test_update_azure_token_returns_a_rebuilt_client_that_shows_the_token(
    holder: AsyncLlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """Its header or `provider_data` shows the current token; the client before is not changed."""
    before = holder.get_client()
    assert shown(before) == {}
    for _ in range(2):
        await asyncio.to_thread(manager.refresh_token)
        client = await holder.update_azure_token()
        assert client is holder.get_client()
        assert client is not before
        assert shown(client) == {
            "azure_api_key": manager.access_token.get_secret_value(),
            "azure_api_base": emulators.azure.base_url,
        }
        assert "hello" in await ask(client, "hello")
    assert shown(before) == {}
    assert "hello" in await ask(before, "hello")
    assert emulators.azure.requests.accepted == 3


async def test_the_token_is_merged_into_provider_data_that_is_there(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Provider data of the client and of one call stays beside the token."""
    own = {"mcp_headers": {"server": {"Authorization": "Bearer own"}}}
    client = holder.get_client()
    if holder.is_library_client:
        client.provider_data = own
    elif OGX:
        client.api_client.set_default_header(HEADER, json.dumps(own))
    else:
        own = {}  # headers of this client cannot be changed; those of a call can, see below
    rebuilt = await holder.update_azure_token()
    assert {**shown(rebuilt), **own} == shown(rebuilt)
    assert set(shown(rebuilt)) == {*own, "azure_api_key", "azure_api_base"}
    of_call = {"_headers" if OGX else "extra_headers": {HEADER: '{"openai_api_key": "own"}'}}
    assert "hello" in await ask(rebuilt, "hello", **of_call)
    assert emulators.azure.requests.accepted == 1


def test_the_enricher_switches_model_validation_off_and_does_nothing_else(tmp_path: Path) -> None:
    """Every `remote::azure` provider gets `model_validation: false`; all the rest is unchanged."""
    original = stack_configuration("https://example.openai.azure.com/openai/v1", tmp_path)
    providers = original["providers"]["inference"]
    providers.append(copy.deepcopy(providers[0]) | {"provider_id": "second"})
    providers.append({"provider_id": "openai", "provider_type": "remote::openai", "config": {}})
    original = yaml.safe_load(yaml.safe_dump(original))
    expected = copy.deepcopy(original)
    for provider in expected["providers"]["inference"][:2]:
        provider["config"]["model_validation"] = False

    in_place = copy.deepcopy(original)
    enrich_azure_entra_id_inference(in_place, {})
    assert in_place == expected
    not_configured = copy.deepcopy(original)
    enrich_azure_entra_id_inference(not_configured, None)
    assert not_configured == original

    text = "# A comment.\n" + yaml.safe_dump(original, sort_keys=False)
    (tmp_path / "original.yaml").write_text(text)
    generate_configuration(tmp_path / "original.yaml", tmp_path / "enriched.yaml", {})
    enriched = (tmp_path / "enriched.yaml").read_text()
    assert yaml.safe_load(enriched) == expected
    added = [line for line in enriched.splitlines() if "model_validation" not in line]
    assert added == text.splitlines()


def test_each_query_of_a_service_gets_a_client_with_the_current_token(
    identity: AzureEntraIdConfiguration, llama_stack: LlamaStackConfiguration, emulators: Emulators
) -> None:
    """The lifespan makes the client, the dependency hands it to each query; start-up asks nothing."""
    config = Configuration(llama_stack=llama_stack, azure_entra_id=(identity,))
    app = FastAPI(lifespan=lifespan(config, process_wide=True))

    @app.post("/query")
    async def query(question: str, client: ClientDep) -> str:
        return await ask(client, question)

    with TestClient(app) as http:
        assert emulators.entra.requests.requested == 0
        tokens = []
        for question in ("first", "second"):
            answer = http.post("/query", params={"question": question})
            assert answer.status_code == 200
            assert question in answer.json()
            tokens.append(fingerprint(AzureEntraIDManager().access_token.get_secret_value()))
            assert AzureEntraIDManager().refresh_token()
        assert tokens[0] != tokens[1]
        assert emulators.azure.requests.accepted_by_token == dict.fromkeys(tokens, 1)
    assert emulators.azure.requests.rejected == 0
