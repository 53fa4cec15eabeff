"""A missing role, and tokens that are all refused: no door asks Entra ID for one token after another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from integration_support import MODEL, RUN_CONFIG
from proxying import caller, proxying

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.transports import async_http_client, http_client

pytestmark = pytest.mark.integration

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
RESPONSE: dict[str, Any] = {"model": MODEL, "input": "hello"}
BODIES = (CHAT, CHAT | {"stream": True}, RESPONSE, RESPONSE | {"stream": True})
EACH = 5
QUESTIONS = EACH * len(BODIES)

type Ask = Callable[[dict[str, Any]], Awaitable[str]]
"""Asks one question; returns the text of the answer, or of the error."""


def _path(body: dict[str, Any]) -> str:
    return "/v1/responses" if "input" in body else "/v1/chat/completions"


def _create(client: Any, body: dict[str, Any]) -> Any:
    create = client.responses.create if "input" in body else client.chat.completions.create
    return create(**body)


async def _of_async_client(client: Any, body: dict[str, Any]) -> str:
    try:
        answer = await _create(client, body)
        return str([event async for event in answer] if body.get("stream") else answer)
    except Exception as error:  # noqa: BLE001 - each client's own
        return str(error)


def _of_client(client: Any, body: dict[str, Any]) -> str:
    try:
        answer = _create(client, body)
        return str(list(answer) if body.get("stream") else answer)
    except Exception as error:  # noqa: BLE001 - each client's own
        return str(error)


@pytest.fixture(
    params=[
        *("async-service", "async-library", "sync-service", "sync-library"),
        *("async-transport", "sync-transport", "proxy"),
    ]
)
def door(request: pytest.FixtureRequest) -> tuple[str, LlamaStackConfiguration]:
    """Each door through which a token goes to a stack, and where the stack is."""
    name: str = request.param
    if not name.endswith("library"):
        return name, LlamaStackConfiguration(url=request.getfixturevalue("stack_url"))
    request.getfixturevalue("stack_environment")
    return name, LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=RUN_CONFIG
    )


@pytest.fixture
async def asking(
    door: tuple[str, LlamaStackConfiguration], manager: AzureEntraIDManager
) -> AsyncIterator[Ask]:
    """Ask through the door."""
    name, config = door
    url = config.url or ""
    async with AsyncExitStack() as stack:
        if name in ("async-service", "async-library"):
            holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
            stack.push_async_callback(holder.close)
            await holder.load(config)
            yield lambda body: _of_async_client(holder.get_client(), body)
        elif name in ("sync-service", "sync-library"):
            synchronous = LlamaStackClientHolder.isolated(manager=manager)
            stack.push_async_callback(asyncio.to_thread, synchronous.close)
            await asyncio.to_thread(synchronous.load, config)
            yield lambda body: asyncio.to_thread(_of_client, synchronous.get_client(), body)
        elif name == "sync-transport":
            plain = stack.enter_context(http_client(url, manager=manager))

            async def ask(body: dict[str, Any]) -> str:
                answer = await asyncio.to_thread(plain.post, _path(body), json=body)
                return answer.text

            yield ask
        else:
            if name == "proxy":
                proxy = await stack.enter_async_context(proxying(url, manager))
                http = await stack.enter_async_context(caller(proxy))
            else:
                http = await stack.enter_async_context(async_http_client(url, manager=manager))

            async def ask_there(body: dict[str, Any]) -> str:
                return (await http.post(_path(body), json=body)).text

            yield ask_there


async def test_refusals_that_no_token_helps_against(asking: Ask, emulators: Emulators) -> None:
    """A missing role renews nothing; where every token is refused, one more is fetched, no more.

    Afterwards a token that is refused is renewed at once again.
    """
    azure, entra = emulators.azure, emulators.entra
    azure.has_role = False
    for body in BODIES * EACH:
        assert "lacks the required data action" in await asking(body)
    assert azure.requests.by_reason == {"permission_denied": QUESTIONS}
    assert entra.requests.requested == 1

    azure.has_role = True
    good, azure.audiences = azure.audiences, ["https://another.example"]
    for body in BODIES * EACH:
        assert "Access token is missing, invalid" in await asking(body)
    assert azure.requests.rejected == 2 * QUESTIONS + 1
    assert entra.requests.requested == 2

    azure.audiences = good
    for body in BODIES:
        answer = await asking(body)
        assert "hello" in answer
        assert "Access token" not in answer
        azure.revoke_all_issued_before_now()
    assert entra.requests.requested == 2 + len(BODIES) - 1
