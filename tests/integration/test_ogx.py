"""What only OGX has: arguments that become the body, and a key for each provider."""

import asyncio
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from entra_material import Certificate
from fake_stack import BASE_URL, COMPLETION, headers_of, serving, stack
from families import FAMILY
from integration_support import MODEL, RUN_CONFIG, ask, ask_streaming, entra_block, two_providers
from ogx_client.api.chat_completions_api import AsyncChatCompletionsApi
from proxying import CHAT, QUESTION, STREAMED, caller, proxying

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    InvalidConfigurationError,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
    ProviderDataError,
    StackUnavailableError,
)
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.emulators import Application, Emulators, fingerprint
from lightspeed_azure.provider_data import provider_keys
from lightspeed_azure.transports import http_client

pytestmark = pytest.mark.integration

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    "arguments",
    [
        {"extra_headers": {"X-Request-Id": "1"}},
        {"extra_headers": {FAMILY.header: '{"azure_api_key": "{token}"}'}},
        {"extra_body": {"extra_headers": {"X-Request-Id": "1"}}},
        {"headers": {FAMILY.header.lower(): "{token}"}},
        {"metadata": {"key": "{token}"}},
        {"metadata": {"{token}": "key"}},
        {"messages": [{"role": "user", "content": "my token is {token}, is it good?"}]},
    ],
    ids=["extra_headers", "with-token", "extra_body", "headers", "metadata", "key", "message"],
)
@pytest.mark.parametrize("shown", [False, True])
async def test_headers_and_tokens_never_get_into_a_body(
    holder: AsyncLlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    arguments: dict[str, Any],
    *,
    shown: bool,
) -> None:
    """OGX takes every argument for a field of the body, which goes to Azure: nothing is sent."""
    token = (await manager.aget_token()).get_secret_value()
    client = await holder.update_azure_token() if shown else holder.get_client()
    text = json.dumps({"model": MODEL, "messages": MESSAGES} | arguments)
    given = json.loads(text.replace("{token}", token))
    with pytest.raises(ProviderDataError, match="Nothing was sent") as caught:
        await client.chat.completions.create(**given)
    with pytest.raises(ProviderDataError, match="Nothing was sent"):
        await client.responses.create(**{"input": "hello"} | given)
    assert token not in str(caught.value)
    assert emulators.azure.requests.total == 0
    assert "hello" in await ask(client, "hello")


async def test_a_method_without_free_arguments_refuses_headers_alike(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """The client's own error would show the value; copies refuse it, too, and all else works."""
    shown = await holder.update_azure_token()
    for client in (holder.get_client(), shown, shown.showing({})):
        for call in (client.models.list, client.files.retrieve):
            with pytest.raises(ProviderDataError, match="pass headers as _headers=") as caught:
                await call(extra_headers={"X-Request-Id": "a-secret"})
            assert "a-secret" not in str(caught.value)
        assert isinstance(client.chat.completions, AsyncChatCompletionsApi)
        assert client.models.list.__name__ == "list"
        assert [each.id for each in (await client.models.list()).data] == [MODEL]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses/compact",
        "/v1alpha/interactions",
    ],
)
async def test_every_way_to_a_model_carries_the_token(
    manager: AzureEntraIDManager, path: str
) -> None:
    """Those of other vendors' APIs, and what counts or shortens a conversation, ask Azure too."""
    seen: list[dict[str, str]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return web.json_response({})

    async with serving(stack(recorded)) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": home})
        await FAMILY.raw(holder.get_client(), "POST", path, {"model": MODEL})
        await holder.close()
    token = manager.access_token.get_secret_value()
    assert json.loads(seen[0][FAMILY.header.lower()])["azure_api_key"] == token


async def test_a_stream_that_nobody_reads_on_is_hung_up(manager: AzureEntraIDManager) -> None:
    """As soon as its caller drops it, as with the plain client: no garbage collection is needed."""
    gone = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b'data: {"type": "response.output_text.delta"}\n\n')
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
        return answer

    async with serving(stack(endless)) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": home})
        gc.disable()
        try:
            stream = await holder.get_client().responses.create(
                model=MODEL, input="hello", stream=True
            )
            async for _ in stream:
                break
            del stream
            await asyncio.wait_for(gone.wait(), 10)
        finally:
            gc.enable()
        await holder.close()


async def test_a_call_may_have_headers_of_its_own(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """`_headers=` are sent as headers, and what they say of other providers beats the default."""
    seen: list[dict[str, str]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return web.json_response(COMPLETION)

    async with serving(stack(recorded)) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": home, "api_key": "a-key"})
        client = FAMILY.with_default(
            holder.get_client(), FAMILY.header, '{"openai_api_key": "d", "groq_api_key": "d"}'
        )
        headers = {"X-Request-Id": "7", FAMILY.header: '{"openai_api_key": "c"}'}
        await client.chat.completions.create(model=MODEL, messages=MESSAGES, _headers=headers)
        await holder.close()
    (sent,) = seen
    data = json.loads(sent[FAMILY.header.lower()])
    assert (sent["x-request-id"], sent["authorization"]) == ("7", "Bearer a-key")
    assert (data["openai_api_key"], data["groq_api_key"]) == ("c", "d")
    assert data["azure_api_key"] == manager.access_token.get_secret_value()


async def test_the_client_of_llama_stack_is_told_that_the_server_is_ogx(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """It would send a header that OGX does not read: the error names the cure; no token is fetched."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load({"url": stack_url, "family": "llama-stack"})
    with pytest.raises(InvalidConfigurationError, match=r"is ogx 1\..*lightspeed-azure\[ogx\]"):
        await ask(holder.get_client(), "hello")
    await holder.close()
    assert emulators.entra.requests.requested == 0


PROVIDERS = ("azure", "azure-west")


@pytest.fixture
def both(emulators: Emulators) -> Iterator[AzureEntraIDManager]:
    """A manager with an identity for each of two providers."""
    west = emulators.entra.register(
        Application(tenant_id=emulators.entra.tenant_id, secrets=["the west's own secret"])
    )
    block = entra_block(emulators)
    instance = AzureEntraIDManager.isolated(
        [
            block | {"provider_id": PROVIDERS[0]},
            block
            | {
                "provider_id": PROVIDERS[1],
                "client_id": west.client_id,
                "client_secret": west.client_secret,
            },
        ]
    )
    yield instance
    instance.close()


async def test_the_server_reads_a_key_for_each_provider(
    both: AzureEntraIDManager, stack_environment: None, emulators: Emulators, tmp_path: Path
) -> None:
    """In the spelling that we send, even where a provider is called as the field for all is."""
    tokens = {name: both.identity(name).get_token() for name in PROVIDERS}
    data = {
        **provider_keys(tokens),
        "azure_api_key": "a wrong one",
        "azure_api_base": emulators.azure.base_url,
    }
    holder = AsyncLlamaStackClientHolder.isolated(manager=AzureEntraIDManager.isolated())
    run_config = two_providers(tmp_path, PROVIDERS)
    await holder.load(
        {"use_as_library_client": True, "library_client_config_path": str(run_config)}
    )
    for name in PROVIDERS:
        await holder.get_client().chat.completions.create(
            model=f"{name}/gpt-4o-mini",
            messages=MESSAGES,
            _headers={FAMILY.header: json.dumps(data)},
        )
    await holder.close()
    accepted = emulators.azure.requests.accepted_by_token
    assert [accepted[fingerprint(tokens[name].get_secret_value())] for name in PROVIDERS] == [1, 1]


async def test_a_response_carries_the_tokens_of_all_providers(both: AzureEntraIDManager) -> None:
    """It may ask models of other providers too; a chat asks one, and its header stays short."""
    sent: list[dict[str, str]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(json.loads(headers_of(request)[FAMILY.header.lower()]))
        return web.json_response(COMPLETION)

    async with serving(stack(recorded, PROVIDERS)) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=both)
        await holder.load({"url": home})
        client = holder.get_client()
        west = f"{PROVIDERS[1]}/gpt-4o-mini"
        await client.chat.completions.create(
            model=west, messages=MESSAGES, _headers={FAMILY.header: '{"AZURE-west_api_key": "x"}'}
        )
        raw = client.responses.create_without_preload_content
        await raw(model=west, input="with the one token at hand")
        other = await both.identity(PROVIDERS[0]).aget_token()
        await raw(model=west, input="with both")
        await holder.close()
    own = both.identity(PROVIDERS[1]).get_token().get_secret_value()
    chat, one, two = sent
    assert chat == {"azure_api_key": own, "azure_api_base": BASE_URL}
    assert one == chat | {"azure-west_API_KEY": own}
    assert two == one | {"azure_API_KEY": other.get_secret_value()}
    assert list(two).index("azure_API_KEY") < list(two).index("azure_api_key")


async def test_a_server_over_tls(
    manager: AzureEntraIDManager, emulators: Emulators, stack_environment: None, tmp_path: Path
) -> None:
    """OGX serves TLS itself; the client trusts `ca_bundle` for it, and nothing else does."""
    certificate = Certificate(host="localhost")
    key = tmp_path / "key.pem"
    key.write_bytes(certificate.pem())
    crt = tmp_path / "crt.pem"
    crt.write_bytes(certificate.public)
    config = tmp_path / "run.yaml"
    tls = f"  tls_certfile: {crt}\n  tls_keyfile: {key}\n"
    config.write_text(RUN_CONFIG.read_text().replace("server:\n", f"server:\n{tls}"))
    url = f"https://localhost:{free_port()}"
    command = [part for part in FAMILY.command(str(config), url) if part != "--insecure"]
    async with server(
        command,
        health=f"{url}/v1/health",
        folder=tmp_path,
        environment=dict(os.environ) | {"SQLITE_STORE_DIR": str(tmp_path)},
        log=tmp_path / "stack.log",
        ca_bundle=crt,
    ):
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": url, "ca_bundle": str(crt)})
        assert "hello" in await ask(holder.get_client(), "hello")
        assert "hello" in await ask_streaming(holder.get_client(), "hello")
        await holder.close()

        def asked() -> str:
            question = {"model": MODEL, "messages": MESSAGES}
            with LlamaStackClientHolder.isolated(manager=manager) as synchronous:
                synchronous.load({"url": url, "ca_bundle": str(crt)})
                synchronous.get_client().chat.completions.create(**question)
            with http_client(url, manager=manager, ca_bundle=crt) as client:
                return client.post("/v1/chat/completions", json=question).text

        assert "hello" in await asyncio.to_thread(asked)
        await holder.load({"url": url})
        with pytest.raises(StackUnavailableError):
            await ask(holder.get_client(), "hello")
        await holder.close()
        through = LlamaStackConfiguration(url=url, ca_bundle=crt)
        async with proxying(through, manager) as proxy, caller(proxy) as http:
            assert (await http.post(CHAT, json=QUESTION)).status_code == 200
            async with http.stream("POST", CHAT, json=STREAMED) as answer:
                assert b'"finish_reason":"stop"' in (await answer.aread()).replace(b": ", b":")
        untrusted = LlamaStackConfiguration(url=url, family="ogx")
        async with proxying(untrusted, manager) as proxy, caller(proxy) as http:
            assert (await http.post(CHAT, json=QUESTION)).status_code == 503
    assert emulators.azure.requests.accepted == 6
