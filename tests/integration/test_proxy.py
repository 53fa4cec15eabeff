"""`lightspeed-azure proxy` in front of a real stack: the same token for clients that are not Python."""

import asyncio
import json
from typing import Any, cast

import pytest
from families import FAMILY
from openai import AsyncOpenAI
from proxying import CHAT, QUESTION, STREAMED, caller, proxying

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.proxy.proxy import Proxy

pytestmark = pytest.mark.integration

RESPONSES = "/v1/responses"
ASKED: dict[str, Any] = {"model": QUESTION["model"], "input": "hello"}


@pytest.fixture
async def proxy(manager: AzureEntraIDManager, stack_url: str) -> Any:
    """A proxy in front of the stack that is installed here."""
    async with proxying(stack_url, manager) as running:
        yield running


async def events_of(proxy: Proxy, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a streamed answer."""
    async with caller(proxy) as http, http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def text_of(events: list[dict[str, Any]]) -> str:
    """Put a streamed chat together."""
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_questions(proxy: Proxy, emulators: Emulators) -> None:
    """A caller without any credential of Azure's is answered by Azure: chat, stream, response."""
    async with caller(proxy) as http:
        chat = await http.post(CHAT, json=QUESTION)
        assert chat.json()["choices"][0]["message"]["content"]
        response = await http.post(RESPONSES, json=ASKED)
        assert response.json()["status"] == "completed", response.text
        listed = await http.get("/v1/models")
        assert QUESTION["model"] in [model["id"] for model in listed.json()["data"]]
    assert text_of(await events_of(proxy, CHAT, STREAMED))
    streamed = await events_of(proxy, RESPONSES, {**ASKED, "stream": True})
    assert streamed[-1]["type"] == "response.completed"
    assert emulators.azure.requests.rejected == 0
    assert emulators.azure.requests.accepted == 4
    assert emulators.entra.requests.issued == 1


async def test_an_upload(proxy: Proxy) -> None:
    """A file goes through to the stack, and comes back as it was."""
    content = b"a line of a file\n" * 20_000
    async with caller(proxy) as http:
        stored = await http.post(
            "/v1/files",
            files={"file": ("a.txt", content, "text/plain")},
            data={"purpose": "assistants"},
        )
        assert stored.status_code == 200, stored.text
        read = await http.get(f"/v1/files/{stored.json()['id']}/content")
    assert read.content == content


async def test_openai_client(proxy: Proxy) -> None:
    """OpenAI's own client talks through the proxy, and gets the stack's own errors."""
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0) as client:
        messages: Any = QUESTION["messages"]
        model = str(QUESTION["model"])
        chunks = await client.chat.completions.create(model=model, messages=messages, stream=True)
        parts = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
        assert "".join(parts)
        assert model in [each.id async for each in client.models.list()]
        with pytest.raises(Exception, match=r"404|400|not found"):
            await client.chat.completions.create(model="azure-x/none", messages=messages)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_refused_token_is_renewed_once(
    proxy: Proxy, emulators: Emulators, path: str, *, stream: bool
) -> None:
    """Azure's refusal renews the token and repeats the request; the caller sees only the answer."""
    async with caller(proxy) as http:
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        emulators.azure.revoke_all_issued_before_now()
        body = QUESTION if path == CHAT else ASKED
        if not stream:
            answer = await http.post(path, json=body)
            assert answer.status_code == 200, answer.text
        else:
            events = await events_of(proxy, path, {**body, "stream": True})
            assert text_of(events) if path == CHAT else events[-1]["type"] == "response.completed"
    assert emulators.entra.requests.issued == 2
    assert emulators.azure.requests.rejected == 1


async def test_a_refusal_that_stays(proxy: Proxy, emulators: Emulators) -> None:
    """A second refusal is the stack's own error, after one repetition."""
    before = emulators.azure.audiences
    emulators.azure.audiences = ["https://another.example"]
    async with caller(proxy) as http:
        answer = await http.post(CHAT, json=QUESTION)
        assert answer.status_code == 401
        assert "401" in answer.text
        assert emulators.azure.requests.rejected == 2
        assert (await http.post(RESPONSES, json=ASKED)).status_code == 500
        (*_, last) = await events_of(proxy, RESPONSES, {**ASKED, "stream": True})
        assert last["type"] == "response.failed"
        emulators.azure.audiences = before
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200


async def test_no_token_can_be_had(
    emulators: Emulators, stack_url: str, manager: AzureEntraIDManager
) -> None:
    """Without a token nothing is sent: 503 with Retry-After and what to do, and then recovery."""
    emulators.entra.fault(Fault.status(503))
    async with proxying(stack_url, manager) as proxy, caller(proxy) as http:
        answer = await http.post(CHAT, json=QUESTION)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_token"
        assert int(answer.headers["retry-after"]) >= 1
        assert (await http.get("/v1/models")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
    assert emulators.azure.requests.accepted == emulators.azure.requests.rejected == 0


async def test_renewals_while_callers_ask(
    emulators: Emulators, stack_url: str, manager: AzureEntraIDManager
) -> None:
    """Fifty questions at once, over several renewals: all are answered, none with an old token."""
    async with proxying(stack_url, manager) as proxy, caller(proxy) as http:
        await http.post(CHAT, json=QUESTION)

        async def renew() -> None:
            for _ in range(5):
                assert await asyncio.to_thread(manager.refresh_token)

        asking = [http.post(CHAT, json=QUESTION) for _ in range(50)]
        answers = await asyncio.gather(renew(), *asking)
    assert [answer.status_code for answer in answers[1:] if answer] == [200] * 50
    assert emulators.azure.requests.rejected == 0


async def test_family_by_configuration(
    stack_url: str, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The family may be written down; then the stack is not asked for its version."""
    stack = LlamaStackConfiguration(url=stack_url, family=cast("Any", FAMILY.name))
    async with proxying(stack, manager) as proxy, caller(proxy) as http:
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200


async def test_client_config(proxy: Proxy) -> None:
    """A client is told a model that there is; what there is not is an error that names what is."""
    async with caller(proxy) as http:
        told = await http.get("/client-config")
        assert told.json() == {"model": "azure/gpt-4o-mini", "base_url": f"{proxy.url}/v1"}
        for query in ("provider=openai", "provider=", "model=null", "provider=azure&model=gpt-9"):
            answer = await http.get(f"/client-config?{query}")
            assert answer.status_code == 404
            assert "azure" in answer.json()["error"]["message"]
