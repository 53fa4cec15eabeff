"""`/v1/responses`: Azure's refusal comes as a 500, or inside a stream that began with 200."""

import asyncio
from typing import Any

import openai
import pytest
from families import FAMILY
from integration_support import EXAMPLE, MODEL, RUN_CONFIG

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.transports.httpx2 import async_http_client

pytestmark = pytest.mark.integration


async def respond(client: Any, question: str) -> str:
    """Ask for a plain response."""
    answer = await client.responses.create(model=MODEL, input=question)
    return "".join(part.text for item in answer.output for part in item.content)


async def events(client: Any, question: str) -> list[Any]:
    """Ask for a streamed response; return its events."""
    stream = await client.responses.create(model=MODEL, input=question, stream=True)
    return [event async for event in stream]


def types(found: list[Any]) -> list[str]:
    """Return the types of events, runs of one type as one."""
    names = [event.type for event in found]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


async def test_responses_carry_the_token(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Plain and streamed responses are answered, all events in their order."""
    client = holder.get_client()
    assert "hello" in await respond(client, "hello")
    assert types(await events(client, "hello")) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert emulators.azure.requests.rejected == 0


async def test_the_examples_stack_answers_the_openai_client(
    stack_url: str, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """`responses.create` works against the stack of examples/service."""
    assert RUN_CONFIG == EXAMPLE / "run.yaml"
    async with openai.AsyncOpenAI(
        base_url=f"{stack_url}/v1",
        api_key="unused",
        http_client=async_http_client(stack_url, manager=manager),
    ) as client:
        answer = await client.responses.create(model=MODEL, input="hello")
    assert "hello" in answer.output_text
    assert emulators.azure.requests.accepted == 1


async def test_a_refused_response_is_repeated(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """The 500 that hides Azure's 401 is recognised; the caller never learns of it."""
    client = holder.get_client()
    await respond(client, "before")
    emulators.azure.revoke_all_issued_before_now()
    answers = await asyncio.gather(*(respond(client, f"after {n}") for n in range(10)))
    assert all("after" in answer for answer in answers)
    assert emulators.entra.requests.issued == 2


async def test_a_refusal_inside_a_stream_is_repeated_unseen(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """Opening events are held back, so the repeated stream is the only one the caller sees."""
    client = holder.get_client()
    await respond(client, "before")
    emulators.azure.revoke_all_issued_before_now()
    found = await events(client, "after")
    assert types(found).count("response.created") == 1
    assert types(found)[-1] == "response.completed"
    assert "response.failed" not in types(found)
    assert emulators.entra.requests.issued == 2


async def test_a_refusal_that_stays_is_told_in_the_stream(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """After one repetition the stack's own failure is passed on, its opening first."""
    emulators.azure.audiences = ["https://another.example"]
    found = await events(holder.get_client(), "refused")
    assert types(found) == ["response.created", "response.in_progress", "response.failed"]
    assert emulators.azure.requests.rejected == 2


async def test_another_failure_is_not_repeated(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """An Azure that is out of order is no reason to drop a token."""
    client = holder.get_client()
    await respond(client, "before")
    emulators.azure.fault(Fault.status(400))
    assert types(await events(client, "fails"))[-1] == "response.failed"
    emulators.azure.clear_faults()
    await respond(client, "after")
    assert emulators.entra.requests.issued == 1


async def test_a_stream_can_be_left_early_and_closed(
    holder: AsyncLlamaStackClientHolder, emulators: Emulators
) -> None:
    """It is a context manager and has the client's own attributes, as the client's stream has."""
    stream = await holder.get_client().responses.create(model=MODEL, input="hello", stream=True)
    async with stream:
        assert (await anext(stream)).type == "response.created"
    assert FAMILY.stream_status(stream) == 200
