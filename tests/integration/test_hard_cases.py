"""What a careful attacker tried: each of these once went wrong, or could."""

import asyncio
import contextlib
import copy
import json
import traceback
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import pytest
from aiohttp import web
from fake_stack import Asked, Handler, answering, headers_of, models, serving, stack
from families import FAMILY, LLAMA_STACK
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from integration_support import RUN_CONFIG, ask, entra_block

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
    ProviderDataError,
    StackUnavailableError,
)
from lightspeed_azure.clients.held_stream import HeldStream
from lightspeed_azure.clients.stack_catalog import Listing, StackCatalog
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.fastapi import Runtime, client, lifespan, runtime

pytestmark = pytest.mark.integration

HEADER = FAMILY.header.lower()
MODEL = "azure/gpt-4o-mini"
llama_stack_only = pytest.mark.skipif(
    FAMILY is not LLAMA_STACK, reason="the client of OGX has no raw variants and no copy()"
)
HELLO = [{"role": "user", "content": "hello"}]
REFUSED = (
    "Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), "
    "or have expired."
)


async def loaded(manager: AzureEntraIDManager, url: str) -> AsyncLlamaStackClientHolder:
    """Return a holder whose client speaks to a URL."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load({"url": url})
    return holder


def recording(seen: list[dict[str, str]], answer: Handler = answering) -> Handler:
    """Return a handler that keeps the headers it is sent."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return await answer(request)

    return handle


def refusing(status: int, body: dict[str, Any]) -> Handler:
    """Return a handler that always answers with an error."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handle


async def test_no_local_variable_of_ours_shows_a_shown_token(manager: AzureEntraIDManager) -> None:
    """A client that `update_azure_token()` made carries a token; no frame of ours prints it."""
    async with serving(stack(answering)) as home:
        holder = await loaded(manager, home)
        shown = await holder.update_azure_token()
        with pytest.raises(ProviderDataError) as caught:
            await shown.chat.completions.create(
                model=MODEL, messages=[], **{FAMILY.headers: {HEADER: "nope"}}
            )
        await holder.close()
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert manager.access_token.get_secret_value() not in "".join(lines)


@llama_stack_only
async def test_raw_variants_bodies_and_paths(manager: AzureEntraIDManager) -> None:
    """Raw and streaming responses, a model given in `extra_body`, paths as people write them."""
    seen: list[dict[str, str]] = []
    async with serving(stack(recording(seen))) as home:
        holder = await loaded(manager, home)
        client = holder.get_client()
        create = client.chat.completions.create
        await client.with_raw_response.chat.completions.create(model=MODEL, messages=HELLO)
        streaming = client.with_streaming_response.chat.completions
        async with streaming.create(model=MODEL, messages=HELLO) as response:
            await response.read()
        await create(model="openai/gpt-4o", messages=HELLO, extra_body={"model": MODEL})
        await create(model=MODEL, messages=HELLO, extra_body={"model": "openai/gpt-4o"})
        for path in ("/v1/chat/completions/", "v1/chat/completions", "/v1/chat/completions?a=b"):
            await client.post(path, body={"model": MODEL}, cast_to=object)
        for body in (["a"], {"model": ["a"]}):
            await client.post("/v1/chat/completions", body=body, cast_to=object)
        await holder.close()
    carried = [HEADER in headers for headers in seen]
    assert carried == [True, True, True, False, True, True, True, False, False]


@pytest.mark.parametrize(
    "path", ["chat/completions", "completions", "embeddings", "responses", "messages"]
)
async def test_every_inference_call_carries_the_token(
    manager: AzureEntraIDManager, path: str
) -> None:
    """Five calls reach a model; a GET of the same path does not."""
    seen: list[dict[str, str]] = []
    async with serving(stack(recording(seen))) as home:
        holder = await loaded(manager, home)
        client = holder.get_client()
        await FAMILY.raw(client, "POST", f"/v1/{path}", {"model": MODEL})
        await FAMILY.raw(client, "GET", f"/v1/{path}", None)
        await holder.close()
    assert [HEADER in headers for headers in seen] == [True, False]


@llama_stack_only
async def test_another_origin_gets_nothing(manager: AzureEntraIDManager) -> None:
    """Neither an absolute URL, nor a copy with another base URL, takes a token along."""
    seen: list[dict[str, str]] = []
    async with serving(recording(seen)) as other, serving(stack(answering)) as home:
        holder = await loaded(manager, home)
        client = holder.get_client()
        body = {"model": MODEL, "messages": []}
        await client.post(f"{other}/v1/chat/completions", body=body, cast_to=httpx.Response)
        await ask(client.copy(base_url=other), "hello")
        async with httpx.AsyncClient() as unpinned:
            with pytest.raises(TypeError, match="origin"):
                client.copy(http_client=unpinned)
        await holder.close()
    assert len(seen) == 2
    assert all(HEADER not in headers for headers in seen)


async def test_models_without_metadata_are_found_by_their_provider(
    manager: AzureEntraIDManager,
) -> None:
    """A stack that does not say a model's provider still has the name before the slash."""
    seen: list[dict[str, str]] = []
    bare = [
        {name: value for name, value in model.items() if name != "custom_metadata"}
        for model in models()
    ]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"data": bare})
        return await stack(recording(seen))(request)

    async with serving(handle) as home:
        holder = await loaded(manager, home)
        await ask(holder.get_client(), "hello")
        await holder.close()
    assert HEADER in seen[-1]


async def test_a_stack_that_hides_its_providers_is_a_typed_error(
    manager: AzureEntraIDManager,
) -> None:
    """Nobody can tell which models need a token then; the request is not sent without one."""
    async with serving(refusing(404, {"detail": "Not Found"})) as home:
        holder = await loaded(manager, home)
        with pytest.raises(StackUnavailableError, match="answered 404"):
            await ask(holder.get_client(), "hello")
        await holder.close()


@pytest.mark.parametrize(
    ("tools", "sends"),
    [
        ([{"type": "mcp", "server_label": "a", "server_url": "http://a"}], 1),
        ([{"type": "function", "name": "f", "parameters": {}, "strict": False}], 2),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_a_tool_of_the_stack_is_never_called_twice(
    manager: AzureEntraIDManager, tools: list[dict[str, Any]], sends: int, *, streamed: bool
) -> None:
    """A response with tools that the stack calls may have called one: it is not repeated."""
    seen: list[dict[str, str]] = []

    async def failing(_: web.BaseRequest) -> web.StreamResponse:
        event = {"type": "response.failed", "response": {"error": {"message": REFUSED}}}
        text = f"data: {json.dumps(event)}\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    handler = recording(seen, failing if streamed else refusing(500, {"detail": REFUSED}))
    async with serving(stack(handler)) as home:
        holder = await loaded(manager, home)
        create = holder.get_client().responses.create
        options = {"stream": True} if streamed else {}
        with contextlib.suppress(Exception):
            answer = await create(model=MODEL, input="hello", tools=tools, **options)
            async for _ in answer:
                pass
        await holder.close()
    assert len(seen) == sends


async def test_an_azure_like_refusal_of_the_stack_itself_drops_no_token(
    manager: AzureEntraIDManager,
) -> None:
    """Its own inbound authentication may speak of access tokens too."""
    seen: list[dict[str, str]] = []
    handler = recording(seen, refusing(401, {"error": {"message": "Access token has expired"}}))
    async with serving(stack(handler)) as home:
        holder = await loaded(manager, home)
        with pytest.raises(Exception, match="has expired"):
            await ask(holder.get_client(), "hello")
        await holder.close()
    assert len(seen) == 1
    assert not manager.is_token_expired


async def test_fifty_refused_together_renew_once(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """All who were refused with one token share one renewal."""
    first: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        token = json.loads(headers_of(request)[HEADER])["azure_api_key"]
        first.append(token)
        await asyncio.sleep(0.05)
        if token == first[0]:
            return await refusing(401, {"detail": f"Error code: 401 - {REFUSED}"})(request)
        return await answering(request)

    async with serving(stack(handle)) as home:
        holder = await loaded(manager, home)
        await asyncio.gather(*(ask(holder.get_client(), "hello") for _ in range(50)))
        await holder.close()
    assert emulators.entra.requests.issued == 2


async def test_a_reload_during_an_update_keeps_the_new_client(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """`update_azure_token()` that waited for a token builds on the client of now."""
    emulators.entra.fault(Fault.delay(0.5), times=1)
    async with serving(stack(answering)) as home, serving(stack(answering)) as other:
        holder = await loaded(manager, home)
        updating = asyncio.create_task(holder.update_azure_token())
        await asyncio.sleep(0.1)
        await holder.load({"url": other})
        updated = await updating
        assert str(updated.base_url).rstrip("/") == other
        assert holder.get_client() is updated
        await holder.close()


async def test_a_close_during_an_update_stays_closed(
    manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The client does not come back."""
    emulators.entra.fault(Fault.delay(0.5), times=1)
    async with serving(stack(answering)) as home:
        holder = await loaded(manager, home)
        updating = asyncio.create_task(holder.update_azure_token())
        await asyncio.sleep(0.1)
        await holder.close()
        with pytest.raises(StackUnavailableError):
            await updating
    assert not holder.is_loaded


async def test_those_who_waited_for_a_failing_stack_share_its_failure(
    manager: AzureEntraIDManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty callers of a stack that does not start make one attempt, not twenty in a row."""
    attempts = 0

    async def start(*_: Any, **__: Any) -> Any:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.05)
        raise StackUnavailableError("it does not start")

    monkeypatch.setattr("lightspeed_azure.clients.holder.start_enriched", start)
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    config = LlamaStackConfiguration(
        use_as_library_client=True, library_client_config_path=RUN_CONFIG
    )
    with pytest.raises(StackUnavailableError):
        await holder.load(config)
    outcomes = await asyncio.gather(
        *(holder.ensure_loaded() for _ in range(20)), return_exceptions=True
    )
    assert attempts == 2
    assert all(isinstance(outcome, StackUnavailableError) for outcome in outcomes)


async def test_those_who_asked_a_silent_stack_share_one_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten callers of a stack that never answers ask it once."""
    monkeypatch.setattr("lightspeed_azure.clients.stack_catalog.ANSWER_LIMIT", 0.1)
    asked = 0

    async def never() -> Listing:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    catalog = StackCatalog(never)
    questions = (catalog.provider_of("model") for _ in range(10))
    outcomes = await asyncio.gather(*questions, return_exceptions=True)
    assert asked == 1
    assert all(isinstance(outcome, StackUnavailableError) for outcome in outcomes)


class Event:
    """An event of a streamed response."""

    def __init__(self, kind: str, error: str = "") -> None:
        self.type = kind
        self.response = type("Response", (), {"error": type("Error", (), {"message": error})()})


class Stream:
    """A stream of the stack's client."""

    def __init__(self, *events: Event | Exception) -> None:
        self._events = iter(events)
        self.closed = 0

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        event = next(self._events, None)
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        """Count."""
        self.closed += 1


def again(stream: Stream, sends: list[Stream]) -> Callable[[], Awaitable[Any]]:
    """Return what sends once more."""

    async def send() -> Stream:
        sends.append(stream)
        return stream

    return send


CREATED, QUEUED, DELTA = (
    Event(f"response.{kind}") for kind in ("created", "queued", "output_text.delta")
)
FAILED = Event("response.failed", REFUSED)


@pytest.mark.parametrize(
    ("first", "passed_on", "sends"),
    [
        ((CREATED, QUEUED, FAILED), [CREATED, DELTA], 1),
        ((CREATED, DELTA, FAILED), [CREATED, DELTA, FAILED], 0),
        ((CREATED,), [CREATED], 0),
        ((FAILED,), [CREATED, DELTA], 1),
    ],
    ids=["before output", "after output", "ends in its opening", "at once"],
)
async def test_a_held_stream_is_repeated_only_before_output(
    first: tuple[Event, ...], passed_on: list[Event], sends: int
) -> None:
    """Opening events wait; nothing is repeated once output was passed on; the first is closed."""
    sent: list[Stream] = []
    stream = Stream(*first)
    asked = Asked()
    held = HeldStream(stream, asked, again(Stream(CREATED, DELTA), sent))
    assert [event async for event in held] == passed_on
    assert len(sent) == asked.told.count("refused") == stream.closed == sends


async def test_a_held_stream_that_breaks_passes_its_opening_on_first() -> None:
    """An error in the middle comes after what came before it."""
    held = HeldStream(Stream(CREATED, ValueError("broken")), Asked(), again(Stream(), []))
    assert await anext(held) is CREATED
    with pytest.raises(ValueError, match="broken"):
        await anext(held)
    assert isinstance(copy.copy(held), HeldStream)


@pytest.mark.parametrize("value", [{"mcp_headers": {}}, "[" * 200_000])
async def test_odd_provider_data_is_the_callers_typed_error(
    manager: AzureEntraIDManager, value: Any
) -> None:
    """A mapping in the place of text, and JSON too deep to read."""
    async with serving(stack(answering)) as home:
        holder = await loaded(manager, home)
        with pytest.raises(ProviderDataError):
            await holder.get_client().chat.completions.create(
                model=MODEL, messages=HELLO, **{FAMILY.headers: {HEADER: value}}
            )
        await holder.close()


async def test_a_proxy_without_a_scheme_is_understood(
    manager: AzureEntraIDManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`https_proxy=host:port`, as curl takes it."""
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    holder = await loaded(manager, "https://stack.example")
    await holder.close()


def test_a_group_of_errors_and_a_websocket(emulators: Emulators) -> None:
    """An endpoint's TaskGroup wraps our error: still 503; a WebSocket gets its client, too."""
    config = {
        "llama_stack": {"url": "http://127.0.0.1:9"},
        "azure_entra_id": entra_block(emulators),
    }
    app = FastAPI(lifespan=lifespan(config))

    @app.post("/query")
    async def query(client: Annotated[Any, Depends(client)]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(client, "hello"))

    @app.websocket("/ws")
    async def ws(socket: WebSocket, found: Annotated[Runtime, Depends(runtime)]) -> None:
        await socket.accept()
        await socket.send_json(found.readiness()["ready"])
        await socket.close()

    with TestClient(app) as http:
        answer = http.post("/query")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        with http.websocket_connect("/ws") as socket:
            assert socket.receive_json() is True


def test_applications_without_a_configuration_share_the_process_wide_manager(
    emulators: Emulators, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The default file configures it while the first of them runs; given ones stay apart."""
    block = json.dumps({name: str(value) for name, value in entra_block(emulators).items()})
    secret = emulators.entra.application.client_secret.get_secret_value()
    block = block.replace("**********", secret)
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(f"llama_stack: {{url: 'http://127.0.0.1:9'}}\nazure_entra_id: {block}\n")
    monkeypatch.setenv("LIGHTSPEED_STACK_CONFIG_PATH", str(file))
    first, second = FastAPI(lifespan=lifespan()), FastAPI(lifespan=lifespan())
    for app in (first, second):

        @app.get("/manager")
        async def manager_of(found: Annotated[Runtime, Depends(runtime)]) -> int:
            return id(found.manager)

    with TestClient(first) as one:
        with TestClient(second) as two:
            assert one.get("/manager").json() == two.get("/manager").json()
            assert one.get("/manager").json() == id(AzureEntraIDManager())
        assert AzureEntraIDManager().is_entra_id_configured
    assert not AzureEntraIDManager().is_entra_id_configured
