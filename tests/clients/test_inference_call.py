"""What one request carries, and how often it is sent."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from proxying import TOKEN, signed_in

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.clients.inference_call import Call, Calls
from lightspeed_azure.clients.pinned_transport import PinnedTransport
from lightspeed_azure.clients.stack_catalog import Listing, Provider, StackCatalog

MODEL = "azure-west/gpt-4o"
BASE_URL = "https://west.openai.azure.com/openai/v1"
REFUSED = (
    "Error code: 401 - Access token is missing, invalid, audience is incorrect, or have expired."
)


class RefusedError(Exception):
    """Azure's refusal, as the stack's client raises it."""

    status_code = 401

    def __init__(self) -> None:
        super().__init__(f"Error: {REFUSED}")


@pytest.fixture
def manager() -> Iterator[AzureEntraIDManager]:
    """A manager that always has a new token."""
    instance = signed_in()
    yield instance
    instance.close()


@pytest.fixture
def calls(manager: AzureEntraIDManager) -> Calls:
    """What decides about the requests to a stack with one Azure provider."""
    provider = Provider("azure-west", "remote::azure", BASE_URL)

    async def ask() -> Listing:
        return Listing(models={MODEL: "azure-west"}, providers={"azure-west": provider})

    return Calls(lambda: manager, StackCatalog(ask), key_per_provider=True)


async def call_of(calls: Calls, *, method: str = "POST", **options: Any) -> Call:
    """Return the call of a chat completion, or of what the options say."""
    given: dict[str, Any] = {
        "path": "/v1/chat/completions",
        "body": {"model": MODEL},
        "default_data": {},
        "call_data": [],
        "stream": False,
    }
    return await calls.of(method, **(given | options))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_only_a_post_reaches_a_model(calls: Calls, method: str) -> None:
    """A request of another method carries no token, even with a body that names a model."""
    assert await (await call_of(calls, method=method)).header() is None
    assert TOKEN in str(await (await call_of(calls, method="post")).header())


@pytest.mark.parametrize(
    "field",
    [
        *("azure_api_key", "AZURE_API_KEY", "azure_api_base", "Azure_Api_Base"),
        *("azure-west_api_key", "azure-west_API_KEY", "AZURE-West_api_key"),
    ],
)
async def test_no_key_of_the_callers_takes_the_tokens_place(calls: Calls, field: str) -> None:
    """OGX would take a provider's own field for its key, in any letter case; others' keys stay."""
    given = json.dumps({field: "theirs", "openai_api_key": "stays"})
    for options in ({"call_data": [given]}, {"default_data": json.loads(given)}):
        sent = json.loads(await (await call_of(calls, **options)).header() or "")
        assert sent.pop("azure_api_key").startswith(TOKEN)
        assert sent == {"azure_api_base": BASE_URL, "openai_api_key": "stays"}


@pytest.mark.parametrize(
    ("tools", "first", "sends", "may_repeat"),
    [
        ([], None, 1, True),
        ([], RefusedError(), 2, False),
        ([{"type": "function", "name": "f"}], None, 1, True),
        ([{"type": "web_search"}], None, 1, False),
        ([{"type": "web_search"}], RefusedError(), 1, None),
    ],
    ids=["plain", "repeated", "function", "tools", "tools-refused"],
)
async def test_a_streamed_response_is_sent_twice_at_most(
    calls: Calls, tools: Any, first: Exception | None, sends: int, may_repeat: bool | None
) -> None:
    """Once where the stack calls tools; a stream that is a repetition is not repeated again."""
    body = {"model": MODEL, "stream": True, "tools": tools}
    call = await call_of(calls, path="/v1/responses", body=body, stream=True)
    sent: list[str | None] = []
    held: list[bool] = []

    async def send() -> str:
        sent.append(await call.header())
        if first is not None and len(sent) == 1:
            raise first
        return "a stream"

    def hold(answer: Any, sent: Any, send_again: Any, *, may_repeat: bool) -> Any:
        del sent, send_again
        held.append(may_repeat)
        return answer

    if may_repeat is None:
        with pytest.raises(RefusedError):
            await call.sent_by(send, hold)
        assert not held
    else:
        assert await call.sent_by(send, hold) == "a stream"
        assert held == [may_repeat]
    assert len(sent) == len(set(sent)) == sends


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://stack.example:8321/v1", True),
        ("https://stack.example:8321/v1/other", True),
        ("http://stack.example:8321/v1", False),
        ("https://stack.example/v1", False),
        ("https://stack.example:8322/v1", False),
        ("https://stack.example.org:8321/v1", False),
    ],
)
async def test_provider_data_goes_to_one_origin(url: str, goes: bool) -> None:
    """Scheme, host and port must agree: the same port may speak plain HTTP, too."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    home = httpx.URL("https://stack.example:8321")
    pinned = PinnedTransport(home, httpx.MockTransport(answer))
    headers = {"X-LlamaStack-Provider-Data": '{"azure_api_key": "t"}'}
    await pinned.handle_async_request(httpx.Request("POST", url, headers=headers))
    assert ("X-LlamaStack-Provider-Data" in seen[0].headers) == goes
