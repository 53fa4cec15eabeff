"""The main job on the real stack, in library and in service mode."""

import asyncio
import json
import os
from typing import Any

import pytest
from families import FAMILY
from integration_support import ask, ask_streaming, broken_run_config

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
    StackUnavailableError,
    TokenUnavailableError,
)
from lightspeed_azure.emulators import Emulators, Fault

pytestmark = pytest.mark.integration


async def test_a_question_is_answered_with_a_token_and_without_a_key(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Plain and streaming questions reach Azure with one and the same Entra ID token."""
    assert not [name for name in os.environ if name.startswith("AZURE_") and "KEY" in name]
    client = holder.get_client()
    assert "hello" in await ask(client, "hello")
    assert "hello" in await ask_streaming(client, "hello")
    seen = emulators.azure.requests
    assert (seen.accepted, seen.rejected, len(seen.accepted_by_token)) == (2, 0, 1)
    assert emulators.entra.requests.issued == 1


async def test_nothing_is_fetched_before_the_first_question(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Loading a client asks neither Entra ID nor Azure for anything."""
    assert holder.get_client() is holder.get_client()
    assert emulators.entra.requests.requested == 0
    assert emulators.azure.requests.total == 0


async def test_no_request_fails_while_tokens_expire_and_are_renewed(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """A crowd asks through several lifetimes of a token; Azure accepts every single request."""
    emulators.entra.token_lifetime = 8.0
    client = holder.get_client()
    deadline = asyncio.get_running_loop().time() + 12.0
    asked = 0

    async def worker(number: int) -> None:
        nonlocal asked
        while asyncio.get_running_loop().time() < deadline:
            await (ask_streaming if number % 2 else ask)(client, f"question {number}")
            asked += 1

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(worker(number))
    seen = emulators.azure.requests
    assert seen.rejected == 0, seen.by_reason
    assert seen.accepted == asked > 50
    assert len(seen.accepted_by_token) >= 3


async def test_a_crowd_of_200_shares_one_token_request(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """200 questions at once, without a token at hand, make one request to Entra ID."""
    client = holder.get_client()
    answers = await asyncio.gather(
        *(
            (ask_streaming if number % 2 else ask)(client, f"number {number}")
            for number in range(200)
        )
    )
    assert all(f"number {number}" in answer for number, answer in enumerate(answers))
    assert emulators.entra.requests.requested == 1
    assert emulators.azure.requests.rejected == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_token_is_renewed_and_the_request_repeated(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators, *, stream: bool
) -> None:
    """When Azure refuses a token before its time, the caller never learns of it."""
    client = holder.get_client()
    question = ask_streaming if stream else ask
    await question(client, "before")
    emulators.azure.revoke_all_issued_before_now()
    answers = await asyncio.gather(*(question(client, f"after {number}") for number in range(20)))
    assert all("after" in answer for answer in answers)
    assert emulators.entra.requests.issued == 2
    assert emulators.azure.requests.by_reason["revoked"] >= 1


async def test_a_refusal_that_stays_is_the_stacks_own_error(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """A token that Azure refuses twice is given up; the caller gets the stack's own error."""
    emulators.azure.audiences = ["https://another.example"]
    with pytest.raises(Exception, match="401") as caught:
        await ask(holder.get_client(), "refused")
    assert getattr(caught.value, "status_code", None) == 401
    assert emulators.azure.requests.rejected == 2


async def test_only_inference_calls_carry_a_token(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Listing models with a token attached would make the stack ask Azure; it does not."""
    await ask(holder.get_client(), "hello")
    client = await holder.update_azure_token()
    assert "azure/gpt-4o-mini" in [model.id for model in FAMILY.listed(await client.models.list())]
    assert "/models" not in emulators.azure.requests.by_path


async def test_update_azure_token_gives_a_new_client_that_shows_the_token(
    holder: AsyncLlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """It is held from then on, shows the merged data where one looks, and the old one works on."""
    old = holder.get_client()
    assert shown(old) == {}
    new = await holder.update_azure_token()
    assert new is not old
    assert holder.get_client() is new
    assert shown(new) == {
        "azure_api_key": manager.access_token.get_secret_value(),
        "azure_api_base": emulators.azure.base_url,
    }
    assert shown(old) == {}
    emulators.azure.revoke_all_issued_before_now()
    assert "old" in await ask(old, "old")
    assert "new" in await ask(new, "new")


async def test_the_base_url_is_that_of_the_stacks_azure_provider(
    holder: AsyncLlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The stack says it, and the manager builds provider data with it."""
    assert manager.build_azure_provider_data() is None
    assert await holder.get_azure_base_url() == emulators.azure.base_url
    assert manager.build_azure_provider_data() is None, "no token yet, and it never waits"
    await ask(holder.get_client(), "hello")
    data = manager.build_azure_provider_data()
    assert data is not None
    assert data["azure_api_base"] == emulators.azure.base_url


async def test_without_a_token_nothing_is_sent(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """When Entra ID is down and no token is at hand, the caller gets the typed error."""
    emulators.entra.fault(Fault.status(503))
    with pytest.raises(TokenUnavailableError) as caught:
        await ask(holder.get_client(), "hello")
    assert caught.value.retry_after is not None
    assert emulators.azure.requests.total == 0


async def test_a_token_outlives_an_outage_of_entra_id(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """While the token at hand is valid, an outage is nobody's business."""
    emulators.entra.token_lifetime = 6.0
    client = holder.get_client()
    await ask(client, "first")
    emulators.entra.fault(Fault.status(503))
    for number in range(10):
        await ask(client, f"during the outage {number}")
        await asyncio.sleep(0.4)
    assert emulators.azure.requests.rejected == 0
    assert emulators.entra.requests.by_outcome["503"] >= 1


async def test_the_callers_own_provider_data_stays(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """What the caller sends besides is kept, in any letter case; our fields win."""
    answer = await holder.get_client().chat.completions.create(
        model="azure/gpt-4o-mini",
        messages=[{"role": "user", "content": "hello"}],
        **{
            FAMILY.headers: {FAMILY.header.upper(): '{"azure_api_key": "x", "openai_api_key": "y"}'}
        },
    )
    assert "hello" in answer.choices[0].message.content
    assert emulators.azure.requests.rejected == 0


async def test_a_stack_that_is_down_is_a_typed_error_and_recovers(
    manager: AzureEntraIDManager, stack_environment: None, emulators: Emulators
) -> None:
    """A stack that does not start keeps nothing held; the next call tries again."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    missing = LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=broken_run_config()
    )
    with pytest.raises(StackUnavailableError):
        await holder.load(missing)
    with pytest.raises(StackUnavailableError):
        holder.get_client()
    with pytest.raises(StackUnavailableError):
        await holder.ensure_loaded()


async def test_sync_code_gets_tokens_from_the_same_cache(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """Threads and coroutines share one token."""
    tokens: list[Any] = await asyncio.gather(
        *(asyncio.to_thread(manager.get_token) for _ in range(8)),
        *(manager.aget_token() for _ in range(8)),
    )
    assert len({token.get_secret_value() for token in tokens}) == 1
    assert emulators.entra.requests.requested == 1


def test_the_singletons_are_one_each() -> None:
    """`AzureEntraIDManager()` and the holder are process-wide, and can be stood in for."""
    assert AzureEntraIDManager() is AzureEntraIDManager()
    other = AzureEntraIDManager.isolated()
    with AzureEntraIDManager.replaced(other):
        assert AzureEntraIDManager() is other
    assert AzureEntraIDManager() is not other


def shown(client: Any) -> dict[str, Any]:
    """Return the provider data that a client shows to someone who looks for it."""
    data = getattr(client, "provider_data", None)
    if data is not None:
        return dict(data)
    return dict(json.loads(FAMILY.defaults(client).get(FAMILY.header, "{}")))
