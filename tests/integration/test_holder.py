"""The holder when things go wrong around it, and when they go fast."""

import asyncio
import gc
import json
import os
import threading
from typing import Any

import pytest
from aiohttp import web
from fake_stack import BASE_URL, answering, headers_of, serving, stack
from families import FAMILY
from integration_support import RUN_CONFIG, ask, ask_streaming, broken_run_config

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    InvalidConfigurationError,
    LlamaStackConfiguration,
    ProviderDataError,
    StackUnavailableError,
)
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration

HEADER = FAMILY.header.lower()


def holder_of(manager: AzureEntraIDManager, **options: Any) -> AsyncLlamaStackClientHolder:
    """Return a holder for a manager."""
    return AsyncLlamaStackClientHolder.isolated(manager=manager, **options)


async def test_a_failing_reload_keeps_the_client(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """The caller gets the typed error; the client before goes on answering."""
    before = holder.get_client()
    broken = LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=broken_run_config()
    )
    with pytest.raises(StackUnavailableError):
        await holder.load(broken)
    assert holder.get_client() is before
    assert "hello" in await ask(before, "hello")


async def test_a_reload_lets_requests_under_way_end(
    manager: AzureEntraIDManager, emulators: Emulators, stack_url: str
) -> None:
    """A stream that began on the client before is not cut off by its successor."""
    emulators.azure.chunk_interval = 0.1
    holder = holder_of(manager)
    await holder.load({"url": stack_url})
    before = holder.get_client()
    streaming = asyncio.create_task(ask_streaming(before, "a long answer"))
    while not emulators.azure.requests.accepted:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0.01)
    await holder.load({"url": stack_url})
    assert holder.get_client() is not before
    assert "a long answer" in await streaming
    await holder.close()


async def test_a_stack_that_hangs_is_bounded(
    manager: AzureEntraIDManager, stack_environment: None
) -> None:
    """A start that takes too long is a typed error, and leaves nothing held."""
    config = LlamaStackConfiguration(
        use_as_library_client=True,
        library_client_config_path=RUN_CONFIG,
    )
    holder = holder_of(manager, start_limit=0.0)
    with pytest.raises(StackUnavailableError, match="did not start within"):
        await holder.load(config)
    assert not holder.is_loaded


async def test_the_base_url_is_looked_up_again(manager: AzureEntraIDManager) -> None:
    """Unknown while the stack is down; learnt at the next Azure call, by itself."""
    port = free_port()
    holder = holder_of(manager)
    await holder.load({"url": f"http://127.0.0.1:{port}"})
    assert await holder.get_azure_base_url() is None
    with pytest.raises(StackUnavailableError):
        await ask(holder.get_client(), "hello")
    assert manager.azure_base_url is None
    async with serving(stack(answering), port):
        await ask(holder.get_client(), "hello")
        assert manager.azure_base_url == BASE_URL
        assert await holder.get_azure_base_url() == BASE_URL
        await holder.close()


@pytest.mark.parametrize("text", ["not json", "[]", '"secret-canary"'])
async def test_provider_data_of_one_call_must_be_an_object(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators, text: str
) -> None:
    """The caller's own mistake is a typed error; nothing is sent."""
    with pytest.raises(ProviderDataError) as caught:
        await holder.get_client().chat.completions.create(
            model="azure/gpt-4o-mini",
            messages=[{"role": "user", "content": "hello"}],
            **{FAMILY.headers: {FAMILY.header: text}},
        )
    assert "secret-canary" not in str(caught.value)
    assert emulators.azure.requests.total == 0


async def test_default_provider_data_is_merged_and_a_bad_default_is_warned_about_once(
    manager: AzureEntraIDManager, caplog: pytest.LogCaptureFixture
) -> None:
    """MCP headers stay beside the token; a default that is no object counts as none."""
    sent: list[dict[str, Any]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(json.loads(headers_of(request).get(HEADER, "{}")))
        return await answering(request)

    async with serving(stack(recorded)) as home:
        holder = holder_of(manager)
        await holder.load({"url": home})
        client = holder.get_client()
        mcp = {"mcp_headers": {"server": {"a": "b"}}, "azure_api_key": "theirs"}
        await ask(FAMILY.with_default(client, FAMILY.header.upper(), json.dumps(mcp)), "1")
        bad = FAMILY.with_default(client, FAMILY.header, "secret-canary")
        await ask(bad, "2")
        await ask(bad, "3")
        await holder.close()
    token = manager.access_token.get_secret_value()
    ours = {"azure_api_key": token, "azure_api_base": BASE_URL}
    assert sent == [{"mcp_headers": mcp["mcp_headers"], **ours}, ours, ours]
    warnings = [record for record in caplog.records if "not a JSON object" in record.message]
    assert len(warnings) == 1
    assert "secret-canary" not in caplog.text


async def test_a_refusal_of_the_stack_itself_drops_no_token(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """A 401 of the stack's own inbound authentication is handed on, and sent once only."""
    asked = 0

    async def refuse(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response({"error": {"message": "Authentication required"}}, status=401)

    async with serving(stack(refuse)) as home:
        holder = holder_of(manager)
        await holder.load({"url": home})
        with pytest.raises(Exception, match="Authentication required"):
            await ask(holder.get_client(), "hello")
        await holder.close()
    assert asked == 1
    assert not manager.is_token_expired
    assert emulators.entra.requests.issued == 1


@pytest.mark.parametrize("version", ["0.7.3", "1.5.0"])
async def test_a_server_of_the_other_family_is_a_clear_error(
    manager: AzureEntraIDManager, emulators: Emulators, version: str
) -> None:
    """It would not read our header: the error names both, and the cure; no token is fetched."""
    seen: list[dict[str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        if request.path == "/v1/version":
            return web.json_response({"version": version})
        return await stack(answering)(request)

    async with serving(handle) as home:
        holder = holder_of(manager)
        await holder.load({"url": home, "family": FAMILY.name})
        assert not seen, "loading asks nothing"
        if version == FAMILY.version:
            await ask(holder.get_client(), "hello")
        else:
            other = "ogx" if FAMILY.name == "llama-stack" else "llama-stack"
            with pytest.raises(InvalidConfigurationError, match=rf"{other} {version}.*\[{other}\]"):
                await ask(holder.get_client(), "hello")
            assert emulators.entra.requests.requested == 0
            assert all(HEADER not in headers for headers in seen)
        await holder.close()


@pytest.mark.parametrize(("path", "status"), [("/v1/version", 404), ("/v1/models", 426)])
async def test_a_server_that_says_no_version_or_refuses_the_clients(
    manager: AzureEntraIDManager, path: str, status: int
) -> None:
    """A version that is hidden is no obstacle; a client that the server refuses is told why."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == path or status == 426:
            return web.json_response({"detail": "no"}, status=status)
        return await stack(answering)(request)

    async with serving(handle) as home:
        holder = holder_of(manager)
        await holder.load({"url": home})
        if status == 426:
            with pytest.raises(StackUnavailableError, match="first two numbers"):
                await ask(holder.get_client(), "hello")
        else:
            assert "hi" in await ask(holder.get_client(), "hello")
        await holder.close()


@pytest.mark.skipif(not FAMILY.client_retries, reason="this client repeats nothing by itself")
async def test_a_retry_of_the_client_carries_the_token_of_its_own_moment(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The client repeats a 503 by itself; a token that was renewed meanwhile is on the second."""
    tokens: list[str] = []

    async def busy_once(request: web.BaseRequest) -> web.StreamResponse:
        tokens.append(json.loads(headers_of(request)[HEADER])["azure_api_key"])
        if len(tokens) == 1:
            await asyncio.to_thread(manager.refresh_token)
            return web.json_response({}, status=503, headers={"retry-after-ms": "1"})
        return await answering(request)

    async with serving(stack(busy_once)) as home:
        holder = holder_of(manager)
        await holder.load({"url": home})
        await ask(holder.get_client(), "hello")
        await holder.close()
    assert len(set(tokens)) == 2
    assert tokens[1] == manager.access_token.get_secret_value()


async def test_a_thousand_updated_clients_leak_nothing(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """They share the connections, or the stack: no file, no thread, no task more."""
    await ask(holder.get_client(), "hello")
    await holder.update_azure_token()
    gc.collect()  # what earlier tests left behind
    before = held()
    for _ in range(1000):
        await holder.update_azure_token()
    gc.collect()
    assert all(now <= then for now, then in zip(held(), before, strict=True)), (held(), before)
    assert "hello" in await ask(holder.get_client(), "hello")


async def test_200_requests_while_the_token_expires(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """In flight, arriving and streaming over two expiries: none fails, none carries a dead token."""
    emulators.entra.token_lifetime = 10.0
    emulators.azure.chunk_interval = 0.6  # a stream outlives half of a token
    client = holder.get_client()
    end = asyncio.get_running_loop().time() + 15.0

    async def worker(number: int) -> int:
        asked = 0
        await asyncio.sleep(number / 25)  # 25 a second, also below: what a busy machine can serve
        while asyncio.get_running_loop().time() < end:
            answer = await (ask_streaming if number % 2 else ask)(client, f"number {number}")
            assert f"number {number}" in answer
            asked += 1
            await asyncio.sleep(6)
        return asked

    asked = sum(await asyncio.gather(*(worker(number) for number in range(200))))
    seen = emulators.azure.requests
    assert seen.rejected == 0, seen.by_reason
    assert seen.accepted == asked >= 300
    assert len(seen.accepted_by_token) >= 3


def held() -> tuple[int, int, int]:
    """Return how many files and sockets, threads, and tasks this process has."""
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir would open one more
    return files, threading.active_count(), len(asyncio.all_tasks())
