"""A request that HTTP does not allow is refused before a token is attached to it."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from fake_stack import answering, serving, stack
from families import FAMILY
from integration_support import MODEL

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackClientHolder,
    ProviderDataError,
)
from lightspeed_azure.transports import async_http_client, http_client

pytestmark = pytest.mark.integration

QUESTION: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"
VALUE = "The value of the header {} is not valid (for example, it holds a line break)"
NAME = "A header's name holds a space, a line break or another character that names cannot have"
END = ", so the request cannot be sent. Nothing was sent"
CASES = [
    pytest.param("X-Note", "a\nthe-secret", VALUE.format("X-Note") + END, id="newline"),
    pytest.param("X-Note", "a\r\nX: the-secret", VALUE.format("X-Note") + END, id="second header"),
    pytest.param("X-Note", "the-secret\0", VALUE.format("X-Note") + END, id="null"),
    pytest.param("X Note\n", "the-secret", NAME + END, id="name"),
]


async def asked(door: str, url: str, manager: AzureEntraIDManager, headers: Any) -> None:
    """Ask through a door."""
    options: dict[str, Any] = QUESTION | {FAMILY.headers: headers}

    def synchronous() -> None:
        with LlamaStackClientHolder.isolated(manager=manager) as holder:
            holder.load({"url": url})
            holder.get_client().chat.completions.create(**options)

    def plain() -> None:
        with http_client(url, manager=manager) as client:
            client.post(CHAT, json=QUESTION, headers=headers).raise_for_status()

    if door == "client":
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load({"url": url})
        try:
            await (await holder.update_azure_token()).chat.completions.create(**options)
        finally:
            await holder.close()
    elif door == "transport":
        async with async_http_client(url, manager=manager) as client:
            (await client.post(CHAT, json=QUESTION, headers=headers)).raise_for_status()
    else:
        blocking: Callable[[], None] = synchronous if door == "sync-client" else plain
        await asyncio.to_thread(blocking)


@pytest.mark.parametrize("door", ["client", "transport", "sync-client", "sync-transport"])
@pytest.mark.parametrize(("name", "value", "message"), CASES)
async def test_an_illegal_header(
    door: str, name: str, value: str, message: str, manager: AzureEntraIDManager
) -> None:
    """Neither the error nor any frame of it, in whosever code, holds the token or the value."""
    async with serving(stack(answering)) as url:
        await asked(door, url, manager, {"X-Note": "a good one"})
        with pytest.raises(ProviderDataError) as caught:
            await asked(door, url, manager, {name: value})
    assert str(caught.value) == message
    found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert manager.access_token.get_secret_value() not in "".join(found.format())
