"""An error of the stack that repeats what the proxy attached never reaches the caller."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from fake_stack import BASE_URL, Handler, serving, stack
from families import FAMILY
from proxying import CHAT, QUESTION, STREAMED, TOKEN, caller, proxying
from pydantic import SecretStr

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.provider_data import LLAMA_STACK_HEADER, OGX_HEADER
from lightspeed_azure.proxy import withholding
from lightspeed_azure.proxy.answer import ERROR_LIMIT

STACK_KEY = "key-of-the-stack-with-32-characters"
OPENAI_KEY = 'sk-"quoted"\\and/long-enough-to-be-shortened-é'
SHORT_KEY = "short-key"
REPEATS = {
    "message": "The stack's error repeats a credential, so it is not shown",
    "type": "server_error",
    "param": None,
    "code": "error_withheld",
}
UNREADABLE = REPEATS | {
    "message": "The stack's error cannot be checked for credentials, so it is not shown"
}
HARMLESS = {"error": {"message": f"No deployment at {BASE_URL}", "code": "DeploymentNotFound"}}


@asynccontextmanager
async def asking(
    handle: Handler, family: Any = FAMILY.name, **config: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a proxy that attaches two tokens, two other keys and the stack's own key."""
    manager = AzureEntraIDManager.isolated(
        [
            {"provider_id": name, "credential": "proxying:Credential"}
            for name in ("azure", "azure-2")
        ]
    )
    keys = ProviderCredentials(
        [
            {"provider_id": "openai", "field": "openai_api_key", "source": {"value": OPENAI_KEY}},
        ]
    )
    try:
        async with serving(stack(handle, ["azure", "azure-2"])) as url:
            upstream = LlamaStackConfiguration(url=url, family=family, api_key=SecretStr(STACK_KEY))
            async with (
                proxying(upstream, manager, keys, **config) as proxy,
                caller(proxy) as http,
            ):
                yield http
    finally:
        keys.close()
        manager.close()


def provider_data(request: web.BaseRequest) -> dict[str, str]:
    """Return the provider data of a request."""
    for name in (LLAMA_STACK_HEADER, OGX_HEADER):
        if name in request.headers:
            return dict(json.loads(request.headers[name]))
    return {}


def credential(request: web.BaseRequest) -> str:
    """Return the credential that a test asks for in the query, as the stack got it."""
    kind = request.query_string
    if kind == "stack":
        return request.headers["Authorization"].removeprefix("Bearer ")
    if kind == "none":
        return "nothing"
    return provider_data(request)[kind]


def answering(make: Callable[[str], web.Response]) -> Handler:
    """Return a stack that answers what `make` makes of the credential."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return make(credential(request))

    return handle


def error(repeated: str, **more: Any) -> web.Response:
    """Return an error that repeats something."""
    return web.json_response({"error": {"message": f"bad: {repeated}"}}, **{"status": 400} | more)


STATUSES = (300, 307, 400, 401, 403, 404, 422, 429, 500, 503)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{CHAT}?azure_api_key"),
        ("POST", f"{CHAT}?stack"),
        ("POST", "/v1/files?stack"),
        ("GET", "/v1/vector_stores?stack"),
        ("DELETE", "/v1/files/1?stack"),
    ],
)
async def test_on_every_route_with_every_status(method: str, path: str) -> None:
    """Also where the request is no inference and carries the stack's key alone."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return error(credential(request), status=int(request.headers["X-Status"]))

    async with asking(handle) as http:
        for status in STATUSES:
            asked: dict[str, Any] = {"headers": {"X-Status": str(status)}}
            if CHAT in path:
                asked["json"] = QUESTION
            answer = await http.request(method, path, **asked)
            assert (answer.status_code, answer.json()) == (502, {"error": REPEATS})
            answer = await http.request(method, path.partition("?")[0] + "?none", **asked)
            harmless = {"error": {"message": "bad: nothing"}}
            assert (answer.status_code, answer.json()) == (status, harmless)


@pytest.mark.parametrize(
    "field", ["azure_api_key", "azure_API_KEY", "azure-2_API_KEY", "openai_api_key"]
)
async def test_every_key_that_was_attached(field: str) -> None:
    """The keys of all providers, in the fields that OGX reads, and whatever their names."""
    question = {**QUESTION, "model": "openai/gpt-4o"} if field[:2] == "op" else QUESTION
    async with asking(answering(error), family="ogx") as http:
        for name in ("azure", "azure-2"):  # so that both tokens are at hand
            await http.post(f"{CHAT}?none", json={**QUESTION, "model": f"{name}/gpt-4o-mini"})
        answer = await http.post(f"/v1/responses?{field}", json=question)
        assert (answer.status_code, answer.json()) == (502, {"error": REPEATS})
        answer = await http.post("/v1/responses?none", json=question)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "bad: nothing")


SHAPES: dict[str, Callable[[str], web.Response]] = {
    "in a header": lambda secret: web.Response(status=500, headers={"X-Detail": f"got {secret}"}),
    "in a header's name": lambda secret: web.Response(status=500, headers={f"X-{secret}": "x"}),
    "in a redirect": lambda secret: web.Response(
        status=307, headers={"Location": f"https://elsewhere.test/?key={secret}"}
    ),
    "compressed": lambda secret: web.Response(
        status=500,
        body=gzip.compress(secret.encode()),
        headers={"Content-Encoding": "gzip"},
    ),
    "deflated": lambda secret: web.Response(
        status=500,
        body=zlib.compress(secret.encode()),
        headers={"Content-Encoding": "deflate"},
    ),
    "in another charset": lambda secret: web.Response(
        status=500,
        body=secret.encode("utf-16"),
        headers={"Content-Type": 'text/plain; charset="UTF-16"'},
    ),
    "JSON in JSON": lambda secret: error(json.dumps({"headers": json.dumps({"k": secret})})),
    "a Python repr": lambda secret: error(repr({"k": secret})),
    "in a URL": lambda secret: error("".join(f"%{each:02X}" for each in secret.encode())),
    "in HTML": lambda secret: error("".join(f"&#{ord(each)};" for each in secret)),
    "shortened at the end": lambda secret: error(secret[:24] + "..."),
    "shortened in the middle": lambda secret: error(f"…{secret[-17:]}"),
}


@pytest.mark.parametrize("kind", ["azure_api_key", "stack", "openai_api_key"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_in_every_shape(shape: str, kind: str) -> None:
    """In headers, compressed, escaped or shortened; the same without a credential passes."""
    if "name" in shape and kind == "openai_api_key":
        pytest.skip("no header can have this name")
    make = SHAPES[shape]
    if shape in ("in a header", "in a redirect") and kind == "openai_api_key":
        make = lambda secret: SHAPES[shape](secret.encode("unicode_escape").decode())  # noqa: E731
    question = {**QUESTION, "model": "openai/gpt-4o"} if kind == "openai_api_key" else QUESTION
    async with asking(answering(make)) as http:
        answer = await http.post(f"{CHAT}?{kind}", json=question)
        assert (answer.status_code, answer.json()) == (502, {"error": REPEATS})
        answer = await http.post(f"{CHAT}?none", json=question)
        assert answer.status_code == make("nothing").status


UNCHECKED: dict[str, Callable[[int], web.Response]] = {
    "too long": lambda more: web.Response(status=500, text="x" * (ERROR_LIMIT + more)),
    "too long, compressed": lambda more: web.Response(
        status=500,
        body=gzip.compress(b"x" * (ERROR_LIMIT + more)),
        headers={"Content-Encoding": "gzip"},
    ),
    "an encoding that is not known": lambda more: web.Response(
        status=500,
        body=b"x",
        headers={"Content-Encoding": "br"} if more > 0 else {},
    ),
    "not compressed as it says": lambda more: web.Response(
        status=500,
        body=b"x" if more > 0 else b"",
        headers={"Content-Encoding": "gzip"},
    ),
    "a charset that is not known": lambda more: web.Response(
        status=500,
        body=b"x",
        headers={"Content-Type": f"text/plain; charset={'nobodys' if more > 0 else 'ascii'}"},
    ),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
@pytest.mark.parametrize("case", UNCHECKED)
async def test_what_cannot_be_checked_is_withheld(
    case: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is told so, and the operator finds the request in the log."""
    make = UNCHECKED[case]
    async with asking(answering(lambda secret: make(0 if secret == "nothing" else 1))) as http:
        headers = {"X-Request-ID": "request-7"}
        with caplog.at_level(logging.WARNING):
            answer = await http.post(f"{path}?stack", json=QUESTION, headers=headers)
        assert (answer.status_code, answer.json()) == (502, {"error": UNREADABLE})
        text = (
            "The stack's error cannot be checked for credentials and is withheld, request request-7"
        )
        assert text in caplog.messages
        answer = await http.post(f"{path}?none", json=QUESTION)
        assert answer.status_code == 500


async def test_errors_that_repeat_nothing_pass_as_they_came() -> None:
    """Their bytes, their encoding and what they tell of the configuration stay as they are."""
    body = gzip.compress(json.dumps(HARMLESS).encode())
    sent = {"Content-Encoding": "gzip", "Content-Type": "application/json", "X-Own": "1"}

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, body=body, headers=sent)

    async with asking(handle) as http, http.stream("POST", CHAT, json=QUESTION) as answer:
        assert answer.status_code == 404
        assert b"".join([part async for part in answer.aiter_raw()]) == body
        assert {name: answer.headers[name] for name in sent} == sent


async def test_callers_may_see_their_own_provider_data() -> None:
    """What the caller sent is no secret from the caller; the token beside it is."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        found = provider_data(request)
        return error(found["tavily_search_api_key"] + found[request.query_string])

    own = {FAMILY.header: '{"tavily_search_api_key": "key-of-the-caller", "azure_api_key": "x"}'}
    async with asking(handle, provider_data=["tavily_search_api_key"]) as http:
        answer = await http.post(f"{CHAT}?azure_api_base", json=QUESTION, headers=own)
        assert answer.json()["error"]["message"] == f"bad: key-of-the-caller{BASE_URL}"
        answer = await http.post(f"{CHAT}?azure_api_key", json=QUESTION, headers=own)
        assert answer.json() == {"error": REPEATS}


BEGINNING = b': ping\n\ndata: {"choices": [], "error": null}\r\n\r\n'
END = b"data: [DONE]\n\n"


def streaming(size: int, event: Callable[[str], bytes], kind: str) -> Handler:
    """Return a stack whose stream has an event with a credential; it comes in pieces of a size."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        body = BEGINNING + event(credential(request)) + END
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(0)
        return response

    return handle


EVENTS: dict[str, Callable[[str], bytes]] = {
    "an error": lambda secret: (
        b"data: %s\n\n" % json.dumps({"error": {"message": secret}}).encode()
    ),
    "a failed response": lambda secret: (
        b"event: response.failed\r\ndata: %s\r\n\r\n"
        % json.dumps({"type": "response.failed", "response": {"error": {"m": secret}}}).encode()
    ),
    "an event of this name": lambda secret: b"event: error\ndata: %s\n\n" % secret.encode(),
    "shortened": lambda secret: b'data: {"error":"%s..."}\n\n' % secret[:24].encode(),
    "any other event": lambda secret: b'data: {"detail": "%s"}\n\n' % secret.encode(),
}


async def streamed(http: httpx.AsyncClient, path: str) -> bytes:
    """Return what comes of a stream, until it ends or breaks off."""
    received = b""
    async with http.stream("POST", path, json=STREAMED) as answer:
        assert answer.status_code == 200
        try:
            async for part in answer.aiter_raw():
                received += part
        except httpx.RemoteProtocolError:
            received += b"<cut>"
    return received


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (1, "text/event-stream"),
        (7, "Text/Event-Stream; charset=utf-8"),
        (10_000, "text/event-stream"),
    ],
)
@pytest.mark.parametrize("event", EVENTS)
async def test_inside_a_stream(event: str, size: int, kind: str) -> None:
    """However the stream is cut, whole events before it pass, and an error takes its place."""
    withheld = b"data: %s\n\n<cut>" % json.dumps({"error": REPEATS}).encode()
    async with asking(streaming(size, EVENTS[event], kind)) as http:
        for credential in ("azure_api_key", "stack"):
            assert await streamed(http, f"{CHAT}?{credential}") == BEGINNING + withheld
        harmless = BEGINNING + EVENTS[event]("nothing") + END
        assert await streamed(http, f"{CHAT}?none") == harmless
        path = "/v1/files?stack"
        assert await streamed(http, path) == BEGINNING + withheld


async def test_the_models_own_output_passes() -> None:
    """A model may write of errors, and of tokens that begin like ours."""
    text = json.dumps({"choices": [{"delta": {"content": f'{{"error": "{TOKEN[:20]}…"}}'}}]})
    event = b"data: %s\n\n" % text.encode()
    async with asking(streaming(50, lambda _: event, "text/event-stream")) as http:
        assert await streamed(http, f"{CHAT}?none") == BEGINNING + event + END


async def test_a_stream_that_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed stream is refused; an event without an end is not held for ever."""

    async def compressed(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        kind = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
        return web.Response(body=gzip.compress(END), headers=kind)

    async with asking(compressed) as http:
        answer = await http.post(CHAT, json=STREAMED)
        assert (answer.status_code, answer.json()) == (502, {"error": UNREADABLE})
    monkeypatch.setattr(withholding, "EVENT_LIMIT", 1000)
    for length in (900, 500_000):
        event = b"data: " + b"x" * length
        async with asking(streaming(50_000, lambda _: event, "text/event-stream")) as http:  # noqa: B023
            received = await streamed(http, f"{CHAT}?none")
        if length < 1000:
            assert received == BEGINNING + event + END
        else:
            told = json.dumps({"error": UNREADABLE}).encode()
            assert received == BEGINNING + b"data: %s\n\n<cut>" % told


async def test_pieces_of_an_event_count_for_idle_timeout() -> None:
    """An event that takes longer than that to arrive, and never stands still, is not cut."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(8):
            await response.write(b"data: x\n")
            await asyncio.sleep(0.1)
        await response.write(b"\n")
        return response

    async with asking(handle, idle_timeout=0.5) as http:
        assert await streamed(http, CHAT) == b"data: x\n" * 8 + b"\n"


@pytest.mark.parametrize("sized", [True, False])
async def test_a_stream_that_says_its_length(sized: bool) -> None:
    """The error that takes an event's place may be longer than the event."""
    event = EVENTS["an error"]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        body = BEGINNING + event(credential(request)) + END
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if sized:
            response.content_length = len(body)
        await response.prepare(request)
        await response.write(body)
        return response

    withheld = b"data: %s\n\n<cut>" % json.dumps({"error": REPEATS}).encode()
    async with asking(handle) as http:
        assert await streamed(http, f"{CHAT}?azure_api_key") == BEGINNING + withheld
        assert await streamed(http, f"{CHAT}?none") == BEGINNING + event("nothing") + END


@pytest.mark.parametrize("padding", [0, 300_000])
async def test_a_response_that_says_that_it_failed(padding: int) -> None:
    """It has the status 200; one that succeeded passes, however long it is."""

    def make(secret: str) -> web.Response:
        fault = None if padding else {"code": "server_error", "message": f"401 {secret}"}
        return web.json_response({"error": fault, "output": "x" * padding})

    asked = {"model": QUESTION["model"], "input": "x"}
    async with asking(answering(make)) as http:
        answer = await http.post("/v1/responses?azure_api_key", json=asked)
        if padding:
            assert (answer.status_code, answer.json()["output"]) == (200, "x" * padding)
        else:
            assert (answer.status_code, answer.json()) == (502, {"error": REPEATS})
        answer = await http.post("/v1/responses?none", json=asked)
        assert answer.status_code == 200


async def test_the_token_of_the_first_attempt_is_withheld_too() -> None:
    """After a refusal the request carries a new token; neither of the two is shown."""
    seen: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        seen.append(provider_data(request)["azure_api_key"])
        if len(seen) == 1:
            text = f"Error code: 401 - Access token is missing or invalid: {seen[0]}"
            return web.json_response({"detail": text}, status=401)
        return error(seen[0])

    async with asking(handle) as http:
        answer = await http.post(CHAT, json=QUESTION)
        assert (answer.status_code, answer.json()) == (502, {"error": REPEATS})
    assert len(set(seen)) == 2


def test_short_values_are_not_looked_for() -> None:
    """They would be found in any text; from eight characters on they are looked for."""
    attached = withholding.Attached(f"Bearer {SHORT_KEY[:7]}")
    assert not attached.is_in_error(SHORT_KEY)
    attached = withholding.Attached(f"Bearer {SHORT_KEY[:8]}")
    assert attached.is_in_error(SHORT_KEY)
    assert SHORT_KEY[:8] not in f"{attached!r} {[getattr(attached, n) for n in attached.__slots__]}"
