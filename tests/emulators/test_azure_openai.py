"""Azure OpenAI's emulator, asked by the real openai SDK."""

import time
from collections.abc import AsyncIterator, Callable

import httpx
import openai
import pytest
from pydantic import SecretStr

from lightspeed_azure.emulators import (
    Application,
    AzureOpenAIEmulator,
    Emulators,
    Fault,
    fingerprint,
)

RESOURCE = "https://cognitiveservices.azure.com"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


class SteppedClock:
    """The machine's clock, and what a test added to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return 1_700_000_000.75 + self.ahead


@pytest.fixture
async def client(azure_emulators: Emulators) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK with a good token; it does not retry."""
    token = azure_emulators.entra.issue(resource=RESOURCE).value
    async with openai.AsyncOpenAI(
        base_url=azure_emulators.azure.base_url, api_key=token, max_retries=0
    ) as client:
        yield client


def ask(azure: AzureOpenAIEmulator, token: str = "", **headers: str) -> httpx.Response:
    """Ask a plain question by plain HTTP."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.post(f"{azure.base_url}/chat/completions", json=CHAT, headers=headers)


async def test_a_chat_completion(client: openai.AsyncOpenAI) -> None:
    """The answer repeats the question in words."""
    answer = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]},
        ],
    )
    assert "Why is the sky blue?" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > answer.usage.prompt_tokens == 5


async def test_a_streamed_chat_completion(
    client: openai.AsyncOpenAI, azure_openai_emulator: AzureOpenAIEmulator
) -> None:
    """The pieces make up the plain answer, and the usage comes last when it was asked for."""
    azure_openai_emulator.chunks = 4
    question: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "One two three four?"}
    ]
    plain = await client.chat.completions.create(model="gpt-4o-mini", messages=question)
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=question, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == plain.choices[0].message.content
    assert len([piece for piece in pieces if piece]) == 4
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_ends_with_done_and_no_unwanted_usage(azure_emulators: Emulators) -> None:
    """The wire says `data: [DONE]`; usage stays away unless it was asked for."""
    token = azure_emulators.entra.issue(resource=RESOURCE).value
    answer = httpx.post(
        f"{azure_emulators.azure.base_url}/chat/completions",
        json={**CHAT, "stream": True},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "usage" not in answer.text


async def test_a_response(client: openai.AsyncOpenAI) -> None:
    """The Responses API takes text and messages."""
    plain = await client.responses.create(model="gpt-4o-mini", input="Who are you?")
    listed = await client.responses.create(
        model="gpt-4o-mini",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "Who are you?"}]}],
    )
    assert "Who are you?" in plain.output_text == listed.output_text
    assert plain.status == "completed"
    assert plain.usage is not None
    assert plain.usage.input_tokens == 3


async def test_a_streamed_response(client: openai.AsyncOpenAI) -> None:
    """The events come in OpenAI's order, numbered, and the deltas make up the text."""
    events = [
        event
        async for event in await client.responses.create(
            model="gpt-4o-mini", input="Who are you?", stream=True
        )
    ]
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == last.response.output_text
    assert len(deltas) > 1


@pytest.mark.parametrize("encoding", ["base64", "float"])
async def test_embeddings(client: openai.AsyncOpenAI, encoding: str) -> None:
    """Equal texts have equal vectors, other texts others; both encodings say the same."""
    answer = await client.embeddings.create(
        model="text-embedding-3-small",
        input=["a", "b", "a"],
        dimensions=8,
        encoding_format="float" if encoding == "float" else "base64",
    )
    default = await client.embeddings.create(model="text-embedding-3-small", input="a")
    if encoding == "float":
        first, second, third = (each.embedding for each in answer.data)
        assert first == third != second
        assert sum(number * number for number in first) == pytest.approx(1.0)
        assert len(first) == 8
    assert len(default.data[0].embedding) == 1536


async def test_models_and_plain_completions(
    client: openai.AsyncOpenAI, azure_openai_emulator: AzureOpenAIEmulator
) -> None:
    """The deployments are listed; one that does not exist is 404, as a model and as a target."""
    assert [each.id async for each in client.models.list()] == [
        "gpt-4o-mini",
        "text-embedding-3-small",
    ]
    assert (await client.models.retrieve("gpt-4o-mini")).owned_by == "azure-openai"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-1")
    completion = await client.completions.create(model="gpt-4o-mini", prompt="Hello there")
    assert "Hello there" in completion.choices[0].text
    with pytest.raises(openai.NotFoundError) as caught:
        await client.completions.create(model="gpt-1", prompt="x")
    assert caught.value.code == "DeploymentNotFound"
    azure_openai_emulator.deployments = {"gpt-1"}
    assert (await client.completions.create(model="gpt-1", prompt="x")).model == "gpt-1"


REFUSED: list[tuple[str, Callable[[Emulators], str]]] = [
    ("missing", lambda _: ""),
    ("bad signature", lambda _: "not-a-token"),
    ("bad signature", lambda emu: _tampered(emu.entra.issue(resource=RESOURCE).value)),
    ("wrong audience", lambda emu: emu.entra.issue(resource="https://graph.microsoft.com").value),
    ("expired", lambda emu: emu.entra.issue(resource=RESOURCE, lifetime=-0.001).value),
    (
        "wrong issuer",
        lambda emu: (
            emu.entra.issue(resource=RESOURCE, application=Application(tenant_id="unknown")).value
        ),
    ),
]


def _tampered(token: str) -> str:
    head, claims, signature = token.split(".")
    return f"{head}.{claims}.{'A' * 8}{signature[8:]}"


@pytest.mark.parametrize(("reason", "make"), REFUSED)
def test_refused_tokens(
    azure_emulators: Emulators, reason: str, make: Callable[[Emulators], str]
) -> None:
    """Every wrong token is the same 401 to the caller, and counted with its own reason."""
    azure = azure_emulators.azure
    token = make(azure_emulators)
    answer = ask(azure, token)
    assert answer.status_code == 401
    assert answer.json()["error"] == {
        "code": "Unauthorized",
        "message": (
            "Access token is missing, invalid, audience is incorrect"
            " (https://cognitiveservices.azure.com), or have expired."
        ),
    }
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer authorization_uri=")
    assert ('error="invalid_token"' in challenge) == bool(token)
    requests = azure.requests
    assert (requests.total, requests.accepted, requests.rejected) == (1, 0, 1)
    assert dict(requests.by_reason) == {reason: 1}
    assert dict(requests.by_token) == ({fingerprint(token): 1} if token else {})


def test_requests_are_counted_by_token(azure_emulators: Emulators) -> None:
    """Tokens appear by fingerprint, with how often they came, to which path, for which model."""
    azure = azure_emulators.azure
    first, second = (azure_emulators.entra.issue(resource=RESOURCE).value for _ in range(2))
    for token in (first, first, second):
        assert ask(azure, token).status_code == 200
    requests = azure.requests
    assert dict(requests.by_token) == {fingerprint(first): 2, fingerprint(second): 1}
    assert requests.accepted_by_token == requests.by_token
    assert dict(requests.by_path) == {"/chat/completions": 3}
    assert dict(requests.by_model) == {"gpt-4o-mini": 3}


def test_the_audience_may_end_in_a_slash_and_be_set(azure_emulators: Emulators) -> None:
    """The old resource id ends in a slash; another resource may be emulated."""
    entra, azure = azure_emulators.entra, azure_emulators.azure
    assert ask(azure, entra.issue(resource=f"{RESOURCE}/").value).status_code == 200
    azure.audiences = ["https://ai.azure.com"]
    assert ask(azure, entra.issue(resource=RESOURCE).value).status_code == 401
    assert ask(azure, entra.issue(resource="https://ai.azure.com").value).status_code == 200


def test_a_token_lives_exactly_as_long_as_it_should() -> None:
    """Issued between two seconds, a token of 3 s is good for 3 s, not for 2.25 s; not for 3.01 s."""
    clock = SteppedClock()
    with Emulators(token_lifetime=3.0, clock=clock) as emu:
        token = emu.entra.issue(resource=RESOURCE).value
        statuses = []
        for clock.ahead in (0.0, 2.3, 2.99, 3.0):
            statuses.append(ask(emu.azure, token).status_code)
    assert statuses == [200, 200, 200, 401]


def test_expiry_is_judged_by_the_services_clock() -> None:
    """A service whose clock is an hour behind ours issues tokens that it accepts itself."""
    with Emulators(token_lifetime=10.0, clock=lambda: time.time() - 3600) as emu:
        assert ask(emu.azure, emu.entra.issue(resource=RESOURCE).value).status_code == 200


async def test_a_token_that_expires_during_a_stream_does_not_end_it() -> None:
    """The token is judged on arrival; the next request is refused."""
    clock = SteppedClock()
    async with Emulators(token_lifetime=3.0, clock=clock) as emu:
        emu.azure.chunk_interval = 0.01
        token = emu.entra.issue(resource=RESOURCE).value
        async with openai.AsyncOpenAI(
            base_url=emu.azure.base_url, api_key=token, max_retries=0
        ) as client:
            text = ""
            async for chunk in await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Go on?"}], stream=True
            ):
                clock.ahead = 60.0
                text += chunk.choices[0].delta.content or ""
            assert text.endswith("heard you.")
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()


def test_one_token_revoked(azure_emulators: Emulators) -> None:
    """A revoked token is refused though it has not expired, named by itself or its fingerprint."""
    entra, azure = azure_emulators.entra, azure_emulators.azure
    first, second, third = (entra.issue(resource=RESOURCE).value for _ in range(3))
    azure.revoke(first)
    azure.revoke(fingerprint(second))
    assert [ask(azure, token).status_code for token in (first, second, third)] == [401, 401, 200]
    assert dict(azure.requests.by_reason) == {"revoked": 2}


def test_all_tokens_revoked() -> None:
    """Tokens issued before are refused, later ones are not, even in the same instant."""
    with Emulators(clock=lambda: 1_700_000_000.0) as emu:
        before = emu.entra.issue(resource=RESOURCE).value
        emu.azure.revoke_all_issued_before_now()
        after = emu.entra.issue(resource=RESOURCE).value
        assert ask(emu.azure, before).status_code == 401
        assert ask(emu.azure, after).status_code == 200


def test_api_keys_are_off_until_registered(azure_openai_emulator: AzureOpenAIEmulator) -> None:
    """The header api-key counts for nothing unless the key was registered."""
    azure = azure_openai_emulator
    assert ask(azure, **{"api-key": "my-key"}).status_code == 401
    azure.api_keys = [SecretStr("my-key")]
    assert ask(azure, **{"api-key": "my-key"}).status_code == 200
    assert ask(azure, **{"api-key": "other"}).status_code == 401


async def test_a_429_with_retry_after(
    client: openai.AsyncOpenAI, azure_openai_emulator: AzureOpenAIEmulator
) -> None:
    """A fault strikes accepted requests, on one path when told so, and is counted."""
    azure = azure_openai_emulator
    azure.fault(Fault.status(429, retry_after=7), times=1, on="responses")
    await client.models.list()
    with pytest.raises(openai.RateLimitError) as caught:
        await client.responses.create(model="gpt-4o-mini", input="x")
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "429"
    await client.responses.create(model="gpt-4o-mini", input="x")
    assert (azure.requests.accepted, azure.requests.faulted) == (3, 1)
    with pytest.raises(ValueError, match="on must be one of"):
        azure.fault(Fault.hang(), on="chat")


def test_an_unknown_path(azure_emulators: Emulators) -> None:
    """A path that Azure does not have is 404 for whoever may ask at all."""
    token = azure_emulators.entra.issue(resource=RESOURCE).value
    header = {"Authorization": f"Bearer {token}"}
    for path in ("/openai/v1/nothing", "/elsewhere"):
        assert (
            httpx.post(f"{azure_emulators.azure.endpoint}{path}", headers=header).status_code == 404
        )
