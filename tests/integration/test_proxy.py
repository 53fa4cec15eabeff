"""`lightspeed-azure proxy` in front of a real stack: the same token for clients that are not Python."""

import pytest
from integration_support import MODEL
from openai import AsyncOpenAI
from proxying import caller, proxying

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


async def test_a_plain_question(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """A caller without any credential of Azure's is answered by Azure."""
    async with proxying(stack_url, manager) as proxy, caller(proxy) as http:
        answer = await http.post("/v1/chat/completions", json=QUESTION)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
    assert emulators.azure.requests.accepted == 1


async def test_openai_streaming(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """OpenAI's own client streams through the proxy."""
    async with (
        proxying(stack_url, manager) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client,
    ):
        chunks = await client.chat.completions.create(**QUESTION, stream=True)  # type: ignore[call-overload]
        text = "".join([c.delta.content or "" async for chunk in chunks for c in chunk.choices])
    assert text
