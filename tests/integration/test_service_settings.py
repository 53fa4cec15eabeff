"""What an operator sets for a stack that is a server reaches its client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from fake_stack import BASE_URL, Handler, answering, headers_of, serving, stack
from integration_support import ask

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators.certificates import CertificateAuthority

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def loaded(manager: AzureEntraIDManager, **settings: object) -> AsyncIterator[object]:
    """Yield the client of a holder with these settings."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(LlamaStackConfiguration.from_object(settings))
    yield holder.get_client()
    await holder.close()


async def test_the_api_key_is_for_the_stack(manager: AzureEntraIDManager) -> None:
    """`api_key` is sent as the bearer token of every request, the token in its own header."""
    seen: list[dict[str, str]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return await answering(request)

    async with serving(stack(recorded)) as url, loaded(manager, url=url, api_key="k3y") as client:
        await ask(client, "hello")
    assert seen[0]["authorization"] == "Bearer k3y"


async def test_a_private_authority(manager: AzureEntraIDManager, tmp_path: Path) -> None:
    """`ca_bundle` makes a certificate trusted that nobody else trusts."""
    authority = CertificateAuthority()
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.pem())
    async with serving(stack(answering), tls=authority.server_context()) as url:
        async with loaded(manager, url=url, ca_bundle=bundle) as client:
            assert await ask(client, "hello") == "hi"
        async with loaded(manager, url=url) as client:
            with pytest.raises(Exception, match="gave no answer"):
                await ask(client, "hello")


async def test_the_timeout_ends_a_request(manager: AzureEntraIDManager) -> None:
    """A stack that never answers is given up after `timeout` seconds."""
    given_up = asyncio.Event()

    async def never(request: web.BaseRequest) -> web.StreamResponse:
        await given_up.wait()
        return await answering(request)

    async with (
        asyncio.timeout(30),
        serving(stack(never)) as url,
        loaded(manager, url=url, timeout=0.3) as client,
    ):
        try:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - each client has its own
                await ask(client, "hello")
        finally:
            given_up.set()
    why = f"{raised.value!r} {raised.value.__context__!r}"  # the client of OGX says only `status=0`
    assert "Timeout" in why


async def test_150_at_once_each_have_a_connection(manager: AzureEntraIDManager) -> None:
    """No request waits for another one to end: httpx's own limit is 100 connections."""
    there = 0
    all_there = asyncio.Event()

    async def together(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal there
        there += 1
        if there == 150:
            all_there.set()
        await all_there.wait()
        return await answering(request)

    async with (
        asyncio.timeout(60),
        serving(stack(together)) as url,
        loaded(manager, url=url) as client,
    ):
        await asyncio.gather(*(ask(client, "hello") for _ in range(150)))


async def test_closing_closes_a_client_that_was_replaced(manager: AzureEntraIDManager) -> None:
    """A reload lets the client before live on for its requests; `close()` ends both at once."""
    closed: list[str] = []

    def told(name: str, client: object) -> None:
        shutdown = client.shutdown  # type: ignore[attr-defined]

        async def telling() -> None:
            closed.append(name)
            await shutdown()

        client.shutdown = telling  # type: ignore[attr-defined]

    async with serving(stack(answering)) as url:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        for name in ("first", "second"):
            await holder.load(LlamaStackConfiguration(url=url))
            told(name, holder.get_client())
        assert closed == []
        await holder.close()
    assert sorted(closed) == ["first", "second"]


@pytest.mark.parametrize(
    ("before", "after"), [(None, BASE_URL), ("https://set.example/openai/v1",) * 2]
)
async def test_the_endpoint_is_learned_unless_it_was_set(
    manager: AzureEntraIDManager, before: str | None, after: str
) -> None:
    """The stack's listing fills a base URL in, and never overwrites one."""
    manager.set_base_url(before)
    handler: Handler = answering
    async with serving(stack(handler)) as url, loaded(manager, url=url) as client:
        await ask(client, "hello")
    assert manager.azure_base_url == after
