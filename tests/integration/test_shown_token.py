"""A token that `update_azure_token()` shows is for looking at: no request carries it."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from fake_stack import answering, headers_of, serving, stack
from families import FAMILY
from integration_support import MODEL, ask

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


async def test_it_ends_with_the_configuration(
    holder: AsyncLlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """After `set_config(None)` a client that shows a token sends none, in both modes."""
    client = await holder.update_azure_token()
    assert "hello" in await ask(client, "hello")
    manager.set_config(None)
    with pytest.raises(Exception, match="API key"):
        await ask(client, "hello")
    assert emulators.azure.requests.total == 1


def test_it_ends_with_the_configuration_for_synchronous_clients(
    stack_config: LlamaStackConfiguration, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The same for the clients without await."""
    with LlamaStackClientHolder.isolated(manager=manager) as holder:
        holder.load(stack_config)
        client = holder.update_azure_token()
        assert client.chat.completions.create(model=MODEL, messages=HELLO).choices
        manager.set_config(None)
        with pytest.raises(Exception, match="API key"):
            client.chat.completions.create(model=MODEL, messages=HELLO)
    assert emulators.azure.requests.total == 1


async def test_what_else_the_client_sends_by_default_stays(manager: AzureEntraIDManager) -> None:
    """A copy, other providers' keys, and an Azure key of the caller's own in the token's place."""
    seen: list[Any] = []

    async def recording(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request).get(FAMILY.header.lower()))
        return await answering(request)

    async with serving(stack(recording)) as url:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": url})
        shown = await holder.update_azure_token()
        default = json.loads(FAMILY.defaults(shown)[FAMILY.header])
        assert default["azure_api_key"] == manager.access_token.get_secret_value()
        own = default | {"openai_api_key": "theirs"}
        manager.set_config(None)
        await ask(shown, "hello")
        await ask(FAMILY.with_default(shown, FAMILY.header, json.dumps(own)), "hello")
        own["azure_api_key"] = "the caller's own"
        await ask(FAMILY.with_default(shown, FAMILY.header, json.dumps(own)), "hello")
        await holder.close()
    assert [value and json.loads(value) for value in seen] == [
        None,
        {"openai_api_key": "theirs"},
        own,
    ]


async def test_it_ends_for_synchronous_copies(manager: AzureEntraIDManager) -> None:
    """A copy of a synchronous client that shows a token sends none, either."""
    seen: list[Any] = []

    async def recording(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request).get(FAMILY.header.lower()))
        return await answering(request)

    def asked(url: str) -> None:
        with LlamaStackClientHolder.isolated(manager=manager) as holder:
            holder.load({"url": url})
            shown = holder.update_azure_token()
            manager.set_config(None)
            copied = shown.copy() if hasattr(shown, "copy") else shown
            for client in (shown, copied):
                client.chat.completions.create(model=MODEL, messages=HELLO)

    async with serving(stack(recording)) as url:
        await asyncio.to_thread(asked, url)
    assert seen == [None, None]
