"""Clients built on httpx and httpx2, asynchronous and synchronous: one set of promises for all."""

import asyncio
import json
import runpy
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
from aiohttp import web
from canary import Canary
from entra_material import Certificate
from fake_stack import BASE_URL, Handler, answering, headers_of, redirecting, serving
from fake_stack import stack as with_listing
from families import FAMILY, LLAMA_STACK
from integration_support import MODEL, entra_block
from pydantic import SecretStr

from lightspeed_azure import (
    AzureEntraIDManager,
    InvalidConfigurationError,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
    ProviderDataError,
    StackUnavailableError,
    TokenUnavailableError,
)
from lightspeed_azure import transports as of_httpx
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.secrets import RedactedStr
from lightspeed_azure.transports import httpx2 as of_httpx2

pytestmark = pytest.mark.integration

HEADER = FAMILY.header.lower()
OTHER_HEADER = next(
    name for name in ("x-llamastack-provider-data", "x-ogx-provider-data") if name != HEADER
)
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "clients").glob("*.py"))
CHAT = "/v1/chat/completions"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
REFUSED = (
    "Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), "
    "or have expired."
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str


@dataclass(frozen=True)
class Kind:
    """A kind of client.

    Attributes:
        name: how a test is called.
        http: httpx or httpx2.
        make: our factory.
        asynchronous: whether it is awaited.
    """

    name: str
    http: Any
    make: Callable[..., Any]
    asynchronous: bool

    async def ask(
        self, client: Any, path: str = CHAT, method: str = "POST", **options: Any
    ) -> Answer:
        """Send a request and read the answer."""
        if self.asynchronous:
            answer = await client.request(method, path, **options)
        else:
            answer = await asyncio.to_thread(client.request, method, path, **options)
        return Answer(answer.status_code, answer.text)

    async def stream(
        self, client: Any, path: str, pieces: int | None = None, **options: Any
    ) -> str:
        """Send a request and read the answer as it comes, or only its first pieces."""
        if self.asynchronous:
            async with client.stream("POST", path, **options) as answer:
                parts = []
                async for part in answer.aiter_text():
                    parts.append(part)
                    if len(parts) == pieces:
                        break
                return "".join(parts)

        def read() -> str:
            with client.stream("POST", path, **options) as answer:
                parts = []
                for part in answer.iter_text():
                    parts.append(part)
                    if len(parts) == pieces:
                        break
                return "".join(parts)

        return await asyncio.to_thread(read)

    @asynccontextmanager
    async def client(self, stack: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield a client of ours, and close it."""
        client = self.make(stack, **options)
        try:
            yield client
        finally:
            await (client.aclose() if self.asynchronous else asyncio.to_thread(client.close))

    def body(self, *parts: bytes) -> Any:
        """Return a body that comes in parts."""
        if not self.asynchronous:
            return iter(parts)

        async def generated() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return generated()


KINDS = (
    Kind("httpx-async", httpx, of_httpx.async_http_client, asynchronous=True),
    Kind("httpx-sync", httpx, of_httpx.http_client, asynchronous=False),
    Kind("httpx2-async", httpx2, of_httpx2.async_http_client, asynchronous=True),
    Kind("httpx2-sync", httpx2, of_httpx2.http_client, asynchronous=False),
)


# The layers between are the same whichever stack answers: OGX is asked through the shortest way and
# the longest.
KINDS_HERE = KINDS if FAMILY is LLAMA_STACK else (KINDS[0], KINDS[3])


@pytest.fixture(params=KINDS_HERE, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of client."""
    found: Kind = request.param
    return found


class Recorded:
    """What a server was sent."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    def __call__(self, answer: Handler = answering) -> Handler:
        """Return a handler that keeps what it is sent."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.headers.append(headers_of(request))
            self.bodies.append(await request.read())
            return await answer(request)

        return handle

    @property
    def data(self) -> list[Any]:
        """The provider data of each request; None without."""
        values = [headers.get(HEADER) for headers in self.headers]
        return [None if value is None else json.loads(value) for value in values]


@pytest.fixture
def seen() -> Recorded:
    """Nothing, at first."""
    return Recorded()


async def test_a_question_is_answered_with_a_token(
    kind: Kind, manager: AzureEntraIDManager, emulators: Emulators, stack_url: str
) -> None:
    """Plain, streamed and as a response, by a real stack; nothing is fetched before."""
    async with kind.client(f"{stack_url}/v1/", manager=manager) as client:
        assert (emulators.entra.requests.requested, emulators.azure.requests.total) == (0, 0)
        assert "hello" in (await kind.ask(client, json=QUESTION)).text
        assert "hello" in await kind.stream(client, CHAT, json=QUESTION | {"stream": True})
        response = {"model": MODEL, "input": "hello"}
        assert (await kind.ask(client, "/v1/responses", json=response)).status == 200
        events = await kind.stream(client, "/v1/responses", json=response | {"stream": True})
    assert events.count('"type":"response.completed"') == 1
    assert emulators.azure.requests.rejected == 0
    assert emulators.entra.requests.issued == 1
    assert manager.azure_base_url == emulators.azure.base_url


async def test_a_refused_token_is_renewed_and_the_request_repeated(
    kind: Kind, manager: AzureEntraIDManager, emulators: Emulators, stack_url: str
) -> None:
    """Chat and responses, plain and streamed: the caller never learns of Azure's refusal."""
    response = {"model": MODEL, "input": "hello"}
    async with kind.client(stack_url, manager=manager) as client:
        await kind.ask(client, json=QUESTION)
        for path, body in ((CHAT, QUESTION), ("/v1/responses", response)):
            emulators.azure.revoke_all_issued_before_now()
            assert (await kind.ask(client, path, json=body)).status == 200
            emulators.azure.revoke_all_issued_before_now()
            text = await kind.stream(client, path, json=body | {"stream": True})
            assert "failed" not in text
            assert text.count('"response.created"') == (path != CHAT)
    assert emulators.entra.requests.issued == 5
    assert emulators.azure.requests.rejected == 4


async def test_a_refusal_that_stays_is_told_as_it_came(
    kind: Kind, manager: AzureEntraIDManager, emulators: Emulators, stack_url: str
) -> None:
    """After one repetition the stack's own answer is handed on, with its text."""
    emulators.azure.audiences = ["https://another.example"]
    async with kind.client(stack_url, manager=manager) as client:
        answer = await kind.ask(client, json=QUESTION)
        assert answer.status == 401
        assert "Error code: 401" in answer.text
        body = {"model": MODEL, "input": "hello", "stream": True}
        assert "response.failed" in await kind.stream(client, "/v1/responses", json=body)
    assert emulators.azure.requests.rejected == 4


async def test_a_stream_whose_repetition_fails_is_told_as_it_came(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """The second answer is no stream: the caller gets the events of the first."""
    failed = {"type": "response.failed", "response": {"error": {"message": REFUSED}}}

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        if len(seen.headers) > 1:
            return web.json_response({"detail": "busy"}, status=503)
        text = f'data: {{"type": "response.created"}}\n\ndata: {json.dumps(failed)}\n\n'
        return web.Response(text=text, content_type="text/event-stream")

    async with (
        serving(with_listing(seen(handle))) as url,
        kind.client(url, manager=manager) as client,
    ):
        body = {"model": MODEL, "input": "hello", "stream": True}
        text = await kind.stream(client, "/v1/responses", json=body)
    assert [line[:30] for line in text.splitlines() if line] == [
        'data: {"type": "response.creat',
        'data: {"type": "response.faile',
    ]
    assert len({each["azure_api_key"] for each in seen.data}) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_origin_gets_nothing(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded, status: int
) -> None:
    """No provider data goes along, not even the caller's own; nor back home from there."""
    back: list[str] = []

    async def returned(request: web.BaseRequest) -> web.StreamResponse:
        return await redirecting(status, f"{back[0]}/v1/completions")(request)

    async with serving(seen(returned)) as other:

        async def home(request: web.BaseRequest) -> web.StreamResponse:
            answer = redirecting(status, f"{other}{CHAT}") if request.path == CHAT else answering
            return await seen(answer)(request)

        async with (
            serving(with_listing(home)) as url,
            kind.client(url, manager=manager, follow_redirects=True) as client,
        ):
            back.append(url)
            headers = {OTHER_HEADER: '{"x_key": "their-secret"}'}
            assert (await kind.ask(client, json=QUESTION, headers=headers)).status == 200
    token = manager.access_token.get_secret_value()
    first, *others = seen.headers
    assert token in first[HEADER]
    assert len(others) == 2
    for headers in others:
        assert token not in str(headers)
        assert "their-secret" not in str(headers)
        assert HEADER not in headers


async def test_the_same_origin_keeps_it(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """A redirect within the stack is an inference call of its own; another host name is not it."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/old/v1/chat/completions":
            return await redirecting(307, CHAT)(request)
        return await answering(request)

    async with (
        serving(with_listing(seen(handle))) as url,
        kind.client(url, manager=manager, follow_redirects=True) as client,
    ):
        await kind.ask(client, "/old/v1/chat/completions", json=QUESTION)
        await kind.ask(client, url.replace("127.0.0.1", "localhost") + CHAT, json=QUESTION)
    assert [data is not None for data in seen.data] == [True, True, False]


async def test_others_behind_the_stacks_gateway_get_nothing(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """Where the stack's URL has a path, all beside it are strangers, by whichever spelling."""
    seen: list[tuple[str, bool]] = []

    async def home(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.path, HEADER in headers_of(request)))
        return await answering(request)

    async def gateway(request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix("/llama")
        if path == request.path:
            return await home(request)
        if path == "/v1/completions":
            return await redirecting(307, "/other" + CHAT)(request)
        return await with_listing(home)(request.clone(rel_url=path))

    async with (
        serving(gateway) as url,
        kind.client(f"{url}/llama/v1", manager=manager, follow_redirects=True) as client,
    ):
        for path in (CHAT, "/v1/completions", url + "/other" + CHAT, url + "/llamas" + CHAT):
            assert (await kind.ask(client, path, json=QUESTION)).status == 200
        await kind.ask(client, f"{url}/llama/%2e%2e/other{CHAT}", json=QUESTION)
    assert [(path, had) for path, had in seen if had] == [(CHAT, True)]
    assert len(seen) == 5


async def test_the_callers_request_never_has_the_token(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """It is put on a copy: neither `response.request` nor an error's request shows it."""
    async with (
        serving(with_listing(answering)) as url,
        kind.client(url, manager=manager) as client,
    ):
        request = client.build_request("POST", CHAT, json=QUESTION)
        sent = (
            client.send(request) if kind.asynchronous else asyncio.to_thread(client.send, request)
        )
        answer = await sent
    assert answer.request is request
    assert HEADER not in request.headers
    assert manager.access_token.get_secret_value() not in str(request.headers.raw)


async def test_only_the_familys_own_header_arrives_merged(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """Whatever spelling the caller uses, and also where no token goes along."""
    headers = [(HEADER.upper(), '{"x_key": "1", "y_key": "1"}'), (OTHER_HEADER, '{"x_key": "2"}')]
    async with (
        serving(with_listing(seen())) as url,
        kind.client(url, manager=manager) as client,
    ):
        await kind.ask(client, json=QUESTION, headers=headers)
        await kind.ask(client, "/v1/files", json={}, headers=headers)
        with pytest.raises(ProviderDataError):
            await kind.ask(client, json=QUESTION, headers={HEADER: "nope"})
    token = manager.access_token.get_secret_value()
    theirs = {"x_key": "2", "y_key": "1"}
    ours = {"azure_api_key": token, "azure_api_base": BASE_URL}
    assert seen.data == [theirs | ours, theirs]
    assert all(OTHER_HEADER not in headers for headers in seen.headers)


async def test_only_inference_calls_of_azure_models_carry_a_token(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """Not a GET, not another path, not another provider's model, not what is no JSON."""
    async with (
        serving(with_listing(seen())) as url,
        kind.client(url, manager=manager) as client,
    ):
        await kind.ask(client, "/v1/files", "GET")
        await kind.ask(client, "/v1/files", json=QUESTION)
        await kind.ask(client, CHAT, "GET")
        assert manager.is_token_expired, "nothing so far needed one"
        await kind.ask(client, json=QUESTION | {"model": "openai/gpt-4o"})
        await kind.ask(client, content=b"\xff not json")
        await kind.ask(client, json=["model", MODEL])
        await kind.ask(client, "/v1/embeddings", json={"model": MODEL, "input": "a"})
    assert [data is not None for data in seen.data] == [False] * 6 + [True]


async def test_a_streamed_body_is_read_once_where_it_must_be(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """An inference call in pieces gets its token; other streams go through untouched."""
    text = json.dumps(QUESTION).encode()
    async with (
        serving(with_listing(seen())) as url,
        kind.client(url, manager=manager, body_limit=200) as client,
    ):
        await kind.ask(client, content=kind.body(text[:10], text[10:]))
        await kind.ask(client, "/v1/files", content=kind.body(b"a" * 300, b"b"))
        await kind.ask(client, "/v1/files", files={"file": ("a.txt", b"hello")})
        with pytest.raises(ProviderDataError, match="body_limit"):
            await kind.ask(client, content=kind.body(b"a" * 150, b"b" * 150))
        await kind.ask(client, json=QUESTION | {"user": "a" * 300})
    assert [data is not None for data in seen.data] == [True, False, False, True]
    assert seen.bodies[:2] == [text, b"a" * 300 + b"b"]
    assert b"hello" in seen.bodies[2]


@pytest.mark.parametrize("path", [CHAT, "/v1/conversations"])
async def test_headers_and_tokens_never_get_into_a_body(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded, path: str
) -> None:
    """They would go on to Azure, or be stored: a clear error, and nothing is sent."""
    token = manager.get_token().get_secret_value()
    async with (
        serving(with_listing(seen())) as url,
        kind.client(url, manager=manager) as client,
    ):
        for wrong in (
            {"extra_headers": {"X-Request-Id": "1"}},
            {"metadata": {HEADER: "{}"}},
            {"user": f"Bearer {token}"},
        ):
            with pytest.raises(ProviderDataError, match="Nothing was sent") as caught:
                await kind.ask(client, path, json=QUESTION | wrong)
            assert token not in str(caught.value)
    assert seen.headers == []


@pytest.mark.parametrize(
    ("version", "header"),
    [("0.7.3", "x-llamastack-provider-data"), ("1.5.0", "x-ogx-provider-data")],
)
async def test_the_stack_says_which_header_it_reads(
    kind: Kind, manager: AzureEntraIDManager, version: str, header: str
) -> None:
    """It is asked once, at the first inference request; `family` says it without asking."""
    asked: list[str] = []
    seen: list[dict[str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        if request.path == "/v1/version":
            return web.json_response({"version": version})
        seen.append(headers_of(request))
        return await with_listing(answering)(request)

    async with serving(handle) as url:
        async with kind.client(url, manager=manager) as client:
            await kind.ask(client, "/v1/files", "GET")
            assert asked == ["/v1/files"]
            await asyncio.gather(*(kind.ask(client, json=QUESTION) for _ in range(5)))
        assert asked.count("/v1/version") == 1
        names = [name for headers in seen for name in headers if "provider-data" in name]
        assert names == [header] * 5
        async with kind.client(url, manager=manager, family="ogx") as client:
            await kind.ask(client, json=QUESTION)
    assert asked.count("/v1/version") == 1
    assert "x-ogx-provider-data" in seen[-1]


async def test_a_stack_that_is_down_is_a_typed_error_and_recovers(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """Nobody can tell then what to send; the next request asks again."""
    up = False

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if not up:
            return web.json_response({}, status=502)
        return await with_listing(answering)(request)

    async with serving(handle) as url, kind.client(url, manager=manager) as client:
        with pytest.raises(StackUnavailableError, match="502"):
            await kind.ask(client, json=QUESTION)
        up = True
        assert (await kind.ask(client, json=QUESTION)).status == 200


async def test_without_a_token_nothing_is_sent(
    kind: Kind, manager: AzureEntraIDManager, emulators: Emulators, seen: Recorded
) -> None:
    """The caller gets the typed error."""
    emulators.entra.fault(Fault.status(503))
    async with (
        serving(with_listing(seen())) as url,
        kind.client(url, manager=manager) as client,
    ):
        with pytest.raises(TokenUnavailableError):
            await kind.ask(client, json=QUESTION)
    assert seen.headers == []


async def test_timeouts_and_broken_connections_are_the_clients_own_errors(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """A time limit of one request holds; errors are of the kind that the caller knows."""

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await answering(request)

    async with serving(slow) as url, kind.client(url, manager=manager) as client:
        with pytest.raises(kind.http.ReadTimeout):
            await kind.ask(client, "/v1/files", "GET", timeout=0.1)
    async with kind.client(url, manager=manager) as client:
        with pytest.raises(kind.http.ConnectError):
            await kind.ask(client, "/v1/files", "GET")


async def test_a_stream_that_breaks_is_the_clients_own_error(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """Also in the middle of an answer."""

    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"data: {}\n\n")
        assert request.transport is not None
        request.transport.close()
        return answer

    async with serving(with_listing(broken)) as url, kind.client(url, manager=manager) as client:
        with pytest.raises(kind.http.TransportError):
            await kind.stream(client, CHAT, json=QUESTION)


async def test_a_stream_that_is_left_early_lets_go(
    kind: Kind, manager: AzureEntraIDManager
) -> None:
    """The first piece comes before the last is there; the connection is given up."""
    ended: list[bool] = []

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b'data: {"type": "response.output_text.delta"}\n\n')
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            ended.append(True)
        return answer

    async with serving(with_listing(endless)) as url, kind.client(url, manager=manager) as client:
        for path in (CHAT, "/v1/responses"):
            body = QUESTION | {"stream": True}
            assert "delta" in await kind.stream(client, path, pieces=2, json=body)
        async with asyncio.timeout(5):
            while len(ended) < 2:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)


async def test_tls_with_an_authority_of_ones_own(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded, tmp_path: Path
) -> None:
    """`ca_bundle` is trusted, for the listing too; without it nothing is sent."""
    certificate = Certificate(host="localhost")
    (tmp_path / "key.pem").write_bytes(certificate.pem())
    (tmp_path / "ca.pem").write_bytes(certificate.public)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    async with serving(with_listing(seen()), tls=tls) as address:
        url = address.replace("127.0.0.1", "localhost")
        async with kind.client(url, manager=manager, ca_bundle=tmp_path / "ca.pem") as client:
            assert (await kind.ask(client, json=QUESTION)).status == 200
        async with kind.client(url, manager=manager) as client:
            with pytest.raises(StackUnavailableError):
                await kind.ask(client, json=QUESTION)
            with pytest.raises(kind.http.ConnectError):
                await kind.ask(client, "/v1/files", "GET")
    assert len(seen.headers) == 1


async def test_the_stacks_own_key_goes_to_the_stack_only(
    kind: Kind, manager: AzureEntraIDManager, seen: Recorded
) -> None:
    """`api_key` opens the listing too; one that the caller gives is used for both instead."""
    asked: list[str | None] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(headers_of(request).get("authorization"))
        if asked[-1] is None and request.path != "/v1/version":
            return web.json_response({}, status=401)
        return await with_listing(answering)(request)

    async with serving(seen()) as other, serving(handle) as url:
        config = LlamaStackConfiguration(url=url, api_key=SecretStr("the-stacks-key"))
        async with kind.client(config, manager=manager) as client:
            assert (await kind.ask(client, json=QUESTION)).status == 200
            await kind.ask(client, f"{other}/v1/files", "GET")
            assert set(asked) == {"Bearer the-stacks-key"}
            await kind.ask(client, json=QUESTION, headers={"Authorization": "Bearer callers"})
            assert asked.pop() == "Bearer callers"
        assert set(asked) == {"Bearer the-stacks-key"}
        asked.clear()
        async with kind.client(url, manager=manager) as client:
            headers = {"Authorization": "Bearer callers"}
            assert (await kind.ask(client, json=QUESTION, headers=headers)).status == 200
        assert asked.count("Bearer callers") >= 3
    assert "authorization" not in seen.headers[0]


@pytest.mark.parametrize("option", ["transport", "verify", "mounts", "proxy", "trust_env"])
def test_what_would_lead_past_the_token_is_refused(kind: Kind, option: str) -> None:
    """Such an option would have no effect, or send requests without it."""
    with pytest.raises(TypeError, match=option):
        kind.make("http://localhost:8321", **{option: None})


@pytest.mark.parametrize(
    ("stack", "text"),
    [
        ("ftp://stack", "url"),
        ("http://stack.example:8321", "plain HTTP"),
        ({"use_as_library_client": True, "library_client_config_path": "run.yaml"}, "url"),
    ],
)
def test_where_the_stack_is_must_make_sense(kind: Kind, stack: Any, text: str) -> None:
    """It is said at once, not at the first request."""
    with pytest.raises(InvalidConfigurationError, match=text):
        kind.make(stack)
    with pytest.raises(InvalidConfigurationError, match="must be one of llama-stack, ogx"):
        kind.make("http://localhost:8321", family="llama")


@pytest.mark.skipif(FAMILY is not LLAMA_STACK, reason="test_sync.py has the same for OGX")
def test_no_request_of_50_threads_fails_while_tokens_expire(
    manager: AzureEntraIDManager, emulators: Emulators, stack_url: str
) -> None:
    """A crowd asks through several lifetimes of a token; Azure accepts every single request."""
    emulators.entra.token_lifetime = 8.0  # so 0.8 s on the way do no harm, on a busy machine

    def crowd(client: Any) -> int:
        asked = 0
        while not asked or len(emulators.azure.requests.accepted_by_token) < 3:
            answer = client.post(CHAT, json=QUESTION)
            assert answer.status_code == 200, answer.text
            asked += 1
            time.sleep(0.3)
        return asked

    with (
        of_httpx2.http_client(stack_url, manager=manager) as client,
        ThreadPoolExecutor(50) as threads,
    ):
        asked = sum(threads.map(crowd, [client] * 50))
    seen = emulators.azure.requests
    assert seen.rejected == 0, seen.by_reason
    assert seen.accepted == asked >= 50


async def test_fifty_refused_together_renew_once(
    kind: Kind, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """All who were refused with one token share one renewal, and nobody learns of it."""
    tokens: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        tokens.append(json.loads(headers_of(request)[HEADER])["azure_api_key"])
        await asyncio.sleep(0.05)
        if tokens[-1:] and json.loads(headers_of(request)[HEADER])["azure_api_key"] == tokens[0]:
            return web.json_response({"detail": f"Error code: 401 - {REFUSED}"}, status=401)
        return await answering(request)

    async with serving(with_listing(handle)) as url, kind.client(url, manager=manager) as client:
        answers = await asyncio.gather(*(kind.ask(client, json=QUESTION) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert emulators.entra.requests.issued == 2


async def test_a_synchronous_call_on_a_running_loop_does_not_lock_up(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """The loop stands still meanwhile, as with every synchronous call, and goes on after."""
    with of_httpx.http_client(stack_url, manager=manager) as client:
        assert client.post(CHAT, json=QUESTION).status_code == 200
    await asyncio.sleep(0)


def test_a_transport_under_a_client_of_ones_own(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """`inner` sends: each process makes its own; what it is sent has the token."""
    hosts: list[str] = []

    class Watched(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            hosts.append(f"{request.method} {request.url.path}")
            return await super().handle_async_request(request)

    transport = of_httpx.TokenTransport(stack_url, manager=manager, inner=Watched)
    with httpx.Client(transport=transport, base_url=stack_url) as client:
        assert client.post(CHAT, json=QUESTION).status_code == 200
    assert sorted(hosts) == sorted(
        ["GET /v1/version", "GET /v1/models", "GET /v1/providers", f"POST {CHAT}"]
    )
    assert emulators.azure.requests.accepted == 1


@pytest.mark.parametrize("make", [of_httpx, of_httpx2], ids=["httpx", "httpx2"])
async def test_the_openai_sdk(
    manager: AzureEntraIDManager, emulators: Emulators, stack_url: str, make: Any
) -> None:
    """Pointed at the stack's /v1, with a client of either kind: refusals stay unseen there, too."""
    http = make.async_http_client(stack_url, manager=manager)
    async with openai.AsyncOpenAI(
        base_url=f"{stack_url}/v1", api_key="none", http_client=http
    ) as client:
        answer = await client.responses.create(model=MODEL, input="hello")
        assert "hello" in answer.output_text
        emulators.azure.revoke_all_issued_before_now()
        stream = await client.responses.create(model=MODEL, input="hello", stream=True)
        assert [event.type async for event in stream][-1] == "response.completed"
    with openai.OpenAI(
        base_url=f"{stack_url}/v1",
        api_key="none",
        http_client=make.http_client(stack_url, manager=manager),
    ) as synchronous:
        emulators.azure.revoke_all_issued_before_now()
        chat = synchronous.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}]
        )
        assert "hello" in (chat.choices[0].message.content or "")
        assert emulators.entra.requests.issued == 3
        emulators.entra.fault(Fault.status(503))
        manager.identity().cache.invalidate(manager.access_token)
        with pytest.raises(TokenUnavailableError):
            synchronous.embeddings.create(model=MODEL, input="hello")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_run(  # noqa: PLR0917 - fixtures
    emulators: Emulators,
    stack_url: str,
    tmp_path: Path,
    example: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each prints the answer of a real stack; none is longer than a screen."""
    if "pydantic_ai" in example.read_text():
        pytest.importorskip("pydantic_ai", reason="pydantic-ai is nobody's dependency here")
    block = {name: str(value) for name, value in entra_block(emulators).items()}
    block["client_secret"] = emulators.entra.application.client_secret.get_secret_value()
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(json.dumps({"llama_stack": {"url": stack_url}, "azure_entra_id": block}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "hello"])
    with (
        AzureEntraIDManager.replaced(AzureEntraIDManager.isolated()) as manager,
        LlamaStackClientHolder.replaced(LlamaStackClientHolder.isolated()),
    ):
        runpy.run_path(str(example), run_name="__main__")
        manager.close()
    assert "hello" in capsys.readouterr().out
    assert emulators.azure.requests.accepted == 1
    assert len(example.read_text().splitlines()) <= 40


async def test_the_canary(
    kind: Kind,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    stack_url: str,
    canary: Canary,
) -> None:
    """Clients, requests, answers, errors and what is logged show no token."""
    async with kind.client(stack_url, manager=manager) as client:
        request = client.build_request("POST", CHAT, json=QUESTION)
        sent = (
            client.send(request) if kind.asynchronous else asyncio.to_thread(client.send, request)
        )
        answer = await sent
        canary.watch(first=manager.access_token.get_secret_value())
        emulators.azure.revoke_all_issued_before_now()
        await kind.ask(client, json=QUESTION)
        canary.watch(second=manager.access_token.get_secret_value())
        emulators.azure.audiences = ["https://another.example"]
        refused = await kind.ask(client, json=QUESTION)
        canary.watch(third=manager.access_token.get_secret_value())
        token = manager.access_token.get_secret_value()
        # The caller's own argument is in the frames of the caller's client, so it is hidden here.
        bad = {HEADER: RedactedStr(f"{token} nope")}
        with pytest.raises(ProviderDataError) as caught:
            await kind.ask(client, json=QUESTION, headers=bad)
        canary.read_error("bad data", caught.value)
        emulators.entra.fault(Fault.status(503))
        manager.identity().cache.invalidate(manager.access_token)
        with pytest.raises(TokenUnavailableError) as unavailable:
            await kind.ask(client, json=QUESTION)
        canary.read_error("no token", unavailable.value)
        canary.read(
            client=client,
            request=request,
            request_headers=request.headers,
            request_extensions=request.extensions,
            answer=answer,
            answer_headers=answer.headers,
            answer_extensions=answer.extensions,
            refused=refused,
            history=answer.history,
        )
