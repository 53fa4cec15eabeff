"""What reaches the stack of a caller's headers, and the caller of the stack's."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web
from fake_stack import answering
from families import FAMILY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from proxying import CHAT, MODEL, QUESTION, TOKEN, Recording, caller, in_front_of, raw
from pydantic import SecretStr

from lightspeed_azure.provider_data import PROVIDER_DATA_HEADERS
from lightspeed_azure.proxy.headers import CREDENTIALS, HOP_BY_HOP, clean_answer
from lightspeed_azure.proxy.routes import Routes

BODY = json.dumps(QUESTION).encode()
GATEWAYS = [
    *("Remote-Groups", "Impersonate-User", "X-WebAuth-User", "X-Consumer-Username", "X-Groups"),
    *("X-MS-CLIENT-PRINCIPAL", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "Ocp-Apim-Subscription-Key"),
    *("X-Goog-Authenticated-User-Email", "X-Goog-IAP-JWT-Assertion", "X-Access-Token"),
    *("X-Amzn-Oidc-Data", "Cf-Access-Jwt-Assertion", "x_id_token"),
    *("X-User", "X-User-Id", "x_user_info", "X-Userinfo", "X-Principal", "X-Principal-Name"),
    *("X-Authenticated-Userid", "X-Tenant", "Remote-User", "Impersonate-Group", "X-Real-IP"),
]
SECRETS = [
    ("Authorization", "Bearer canary-of-caller"),
    ("aUTHORIZATION", "Basic canary-of-caller"),
    ("api-key", "canary-of-caller"),
    ("X-API-Key", "canary-of-caller"),
    ("Cookie", "session=canary-of-caller"),
    ("Proxy-Authorization", "Basic canary-of-caller"),
    ("X-Auth-User-Id", "canary-of-caller"),
    ("X-Auth-Attributes", '{"roles": ["canary-of-caller"]}'),
    ("x-tenant-id", "canary-of-caller"),
    ("X-MaaS-Group", "canary-of-caller"),
    ("X-Remote-User", "canary-of-caller"),
    ("X-Forwarded-User", "canary-of-caller"),
    *((name, "canary-of-caller") for name in GATEWAYS),
    ("Forwarded", "for=canary-of-caller"),
    ("X-LlamaStack-Provider-Data", '{"azure_api_key": "canary-of-caller"}'),
    ("x-llamastack-PROVIDER-data", '{"AZURE_API_BASE": "https://canary-of-caller"}'),
    ("X_LlamaStack_Provider_Data", '{"azure_api_key": "canary-of-caller"}'),
    ("X-OGX-Provider-Data", '{"azure_api_key": "canary-of-caller"}'),
    ("X-Named", "canary-of-caller"),
    ("TE", "canary-of-caller"),
]


def request_bytes(headers: list[tuple[str, str]], body: bytes = BODY) -> bytes:
    """Return a chat completion with these headers, as they are."""
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def test_nothing_of_the_callers_secrets_arrives() -> None:
    """Credentials, identities and provider data are taken out, in any spelling; ours is put in."""
    seen = Recording()
    headers = [*SECRETS, ("Connection", "close, X-Named"), ("X-Kept", "kept")]
    async with in_front_of(seen) as proxy:
        answer = await raw(proxy, request_bytes(headers))
    assert b" 200 OK" in answer.split(b"\r\n")[0]
    assert "canary-of-caller" not in repr(seen.requests)
    assert seen.header("x-kept") == ["kept"]
    (data,) = seen.header(FAMILY.header)
    assert json.loads(data)["azure_api_key"].startswith(TOKEN)
    assert seen.header("authorization") == []
    assert len([name for name in PROVIDER_DATA_HEADERS if seen.header(name)]) == 1


async def test_the_stacks_own_key_and_further_headers() -> None:
    """`llama_stack.api_key` takes the place of the caller's, and the operator's list is stripped."""
    from fake_stack import serving, stack
    from proxying import proxying, signed_in

    from lightspeed_azure import LlamaStackConfiguration

    seen, manager = Recording(), signed_in()
    async with serving(stack(seen)) as url:
        config = LlamaStackConfiguration(url=url, api_key=SecretStr("key-of-the-stack"))
        options: dict[str, Any] = {"strip_headers": ["X-Mine", "x-our-*"]}
        async with proxying(config, manager, **options) as proxy, caller(proxy) as http:
            sent = {
                "Authorization": "Bearer mine",
                "x-mine": "1",
                "X-Our-Group": "1",
                "X-Ours": "1",
            }
            assert (await http.post(CHAT, json=QUESTION, headers=sent)).status_code == 200
    manager.close()
    assert seen.header("authorization") == ["Bearer key-of-the-stack"]
    assert seen.header("x-mine") == seen.header("x-our-group") == []
    assert seen.header("x-ours") == ["1"]


@pytest.mark.parametrize("allowed", [[], ["vllm_api_token"]])
async def test_provider_data_that_is_not_allowed_goes_nowhere(allowed: list[str]) -> None:
    """Without a name in `provider_data` no field of a caller reaches the stack, on any path."""
    seen = Recording()
    data = json.dumps({"openai_api_key": "theirs", "mcp_headers": {"x": "theirs"}})
    async with in_front_of(seen, provider_data=allowed) as proxy:
        for name in (*PROVIDER_DATA_HEADERS, FAMILY.header.replace("-", "_").upper()):
            async with caller(proxy, headers={name: data}) as http:
                other = {**QUESTION, "model": "openai/gpt-4o"}
                for answer in (
                    await http.post(CHAT, json=QUESTION),
                    await http.post(CHAT, json=other),
                    await http.post("/v1/files", content=b"x"),
                    await http.get("/v1/files"),
                ):
                    assert answer.status_code == 200
    assert len(seen.requests) == 4 * 3
    assert "theirs" not in repr(seen.requests)


async def test_allowed_provider_data_goes_through() -> None:
    """Fields on the list reach the stack beside the token; others, and ours, do not."""
    seen = Recording()
    data = {"openai_api_key": "theirs", "other_api_key": "no", "azure_api_key": "no"}
    async with in_front_of(seen, provider_data=["openai_api_key"]) as proxy, caller(proxy) as http:
        headers = {FAMILY.header: json.dumps(data)}
        assert (await http.post(CHAT, json=QUESTION, headers=headers)).status_code == 200
        sent = json.loads(seen.header(FAMILY.header)[0])
        assert sent.pop("azure_api_key").startswith(TOKEN)
        assert sent.pop("azure_api_base")
        assert sent == {"openai_api_key": "theirs"}
        other = {**QUESTION, "model": "openai/gpt-4o"}
        assert (await http.post(CHAT, json=other, headers=headers)).status_code == 200
        assert json.loads(seen.header(FAMILY.header)[0]) == {"openai_api_key": "theirs"}
        assert (
            await http.post(CHAT, json=QUESTION, headers={FAMILY.header: "x"})
        ).status_code == 400


async def test_only_models_of_azure_get_a_token() -> None:
    """A model of another provider, an unknown one, none, and every other path: no token."""
    seen = Recording()
    async with in_front_of(seen) as proxy, caller(proxy) as http:
        for model in ("openai/gpt-4o", "gpt-nobody-knows", "azureml/x", "", None, 7, ["azure"]):
            assert (await http.post(CHAT, json={**QUESTION, "model": model})).status_code == 200
            assert seen.header(FAMILY.header) == [], model
        for path in ("/v1/files", "/v1/responses/1", "/v1/health", f"{CHAT}/1"):
            assert (await http.get(path)).status_code == 200
            assert seen.header(FAMILY.header) == [], path
        assert (await http.post(f"{CHAT}/", json=QUESTION)).status_code == 200
        assert TOKEN in seen.header(FAMILY.header)[0]


async def test_ids_and_traces() -> None:
    """The caller's request id and trace go on; a wild id is replaced; the answer tells it."""
    seen = Recording()
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "x=1"}
    async with in_front_of(seen) as proxy, caller(proxy) as http:
        answer = await http.get("/v1/files", headers={"X-Request-ID": "mine-1", **trace})
        assert answer.headers["x-request-id"] == "mine-1"
        assert seen.header("x-request-id") == ["mine-1"]
        assert seen.header("traceparent") == [trace["traceparent"]]
        assert seen.header("tracestate") == ["x=1"]
        answer = await http.get("/v1/files", headers={"X-Request-ID": "a b" * 100})
        assert answer.headers["x-request-id"] == seen.header("x-request-id")[0]
        assert len(answer.headers["x-request-id"]) == 32


async def test_answers_are_clean() -> None:
    """Cookies, the server's name, hop-by-hop headers and the stack's own address stay inside."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            "Set-Cookie": "a=b",
            "Server": "uvicorn",
            "X-Named": "1",
            "Connection": "X-Named",
            "Location": f"http://{request.host}/v1/files/",
            FAMILY.header: "echoed",
            "X-Kept": "kept",
            "Retry-After": "7",
        }
        return web.Response(status=307, headers=headers)

    async with in_front_of(handle) as proxy, caller(proxy) as http:
        answer = await http.get("/v1/files")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/v1/files/"
    assert answer.headers["x-kept"] == "kept"
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["server"] == "lightspeed-azure"
    assert not {"set-cookie", "x-named", FAMILY.header.lower()} & {*answer.headers}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Content-Type": "text/event-stream; charset=utf-8"}, ("no", "no-cache")),
        ({"content-type": "text/event-stream", "cache-control": "no-store"}, ("no", "no-store")),
        ({"Content-Type": "text/event-stream", "X-Accel-Buffering": "yes"}, ("no", "no-cache")),
        ({"Content-Type": "application/json"}, (None, None)),
        ({"Content-Type": "application/json", "Cache-Control": "x"}, (None, "x")),
    ],
)
def test_servers_in_front_do_not_buffer_streams(
    answer: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """Only a stream of events says that nginx must not buffer it, and that no cache may keep it."""
    cleaned = clean_answer(CIMultiDict(answer), "http://stack")
    assert cleaned.getall("x-accel-buffering", [None]) == [expected[0]]
    assert cleaned.getall("cache-control", [None]) == [expected[1]]


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("/v1/files/", "/v1/files/"),
        ("", "/"),
        ("?a=b", "?a=b"),
        (".evil.example/x", None),
        (":9/x", None),
        ("@evil.example/x", None),
    ],
)
def test_only_the_stacks_own_address_is_taken_off(tail: str, told: str | None) -> None:
    """A redirect to another host whose name begins alike is told as it is."""
    origin = "http://stack"
    answer = CIMultiDict(Location=origin + tail)
    assert clean_answer(answer, origin)["location"] == (told or origin + tail)


GET = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        GET + b"X-A: 1\r\n  folded\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: 3, 3\r\n\r\nabc",
        POST + b"Content-Length: +3\r\n\r\nabc",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        b"POST /v1/files HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/files HTTP/0.9\r\nHost: localhost\r\n\r\n",
        b"GET /v1/files\r\n\r\n",
        b"GET /v1/files HTTP/2.0\r\nHost: localhost\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\n\r\n",
        b"GET http://evil/v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"X-A: a\rb\r\n\r\n",
        GET + b"X-A: a\0b\r\n\r\n",
        GET + b"X A: 1\r\n\r\n",
        GET + b"X-A: \xff\xfe\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_smuggling(data: bytes) -> None:
    """What two servers could read as two different requests is refused, and the stack sees nothing."""
    seen = Recording()
    async with in_front_of(seen) as proxy:
        answer = await raw(proxy, data)
    assert answer.split()[1] == b"400", answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert seen.requests == []


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/providers", "/v1/inspect/routes", "/v1alpha/admin/providers", "/", "/v1", "/docs"),
        *("/v1/models/../providers", "/v1/models/%2e%2e/providers", "/v1/models/..%2fproviders"),
        *("//v1/providers", "/v1//models", "/v1/models/%5c..%5cproviders", "/v1/models%00"),
        *("/v1/modelsx", "/V1/models", "/v1/models;/../providers"),
        *(
            "/v1/models/..;/providers",
            "/v1/models/..;a=b/providers",
            "/v1/models/%2e%2e%3b/providers",
        ),
        *("/v1/models/%252e%252e/providers", "/v1/models/..%252fproviders", "/v1/models/a%255cb"),
        *("/v1/models/%25252e%25252e/providers", "/v1/models/%c0%ae%c0%ae/providers"),
    ],
)
async def test_paths_that_are_not_let_through(path: str) -> None:
    """What callers have no use for, and what is written to look like something else, is not there."""
    seen = Recording()
    async with in_front_of(seen) as proxy:
        answer = await raw(
            proxy, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
    assert answer.split()[1] == b"404", answer
    assert seen.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/a" * 200_000,
        "/%61" * 100_000,
        "/v1/models" + "/a" * 200_000,
        "/v1/models" + "/." * 200_000,
        "/v1/models/" + "%2561" * 80_000,
    ],
)
def test_a_path_of_many_slashes_is_looked_up_quickly(path: str) -> None:
    """The time to look a route up grows with the path's length, not with its square."""
    before = time.process_time()
    Routes(["/v1alpha/inference/rerank"]).of("GET", path)
    assert time.process_time() - before < 1.5  # 12 s on a fast machine if it were quadratic


async def test_a_further_route_can_lead_to_a_model() -> None:
    """An inference path below a configured route carries the token; other paths there do not."""
    seen = Recording()
    older = "/v1/openai/v1/chat/completions"
    async with in_front_of(seen, routes=["/v1/openai"]) as proxy, caller(proxy) as http:
        for path in (older, f"{older}/", "/v1/openai/v1/chat%2Fcompletions"):
            assert (await http.post(path, json=QUESTION)).status_code == 200
            assert TOKEN in seen.header(FAMILY.header)[0], path
            assert seen.requests[-1][1] == path
        assert (await http.get(older)).status_code == 200
        assert seen.header(FAMILY.header) == []
        assert (await http.post("/v1/openai/v1/files", json=QUESTION)).status_code == 200
        assert seen.header(FAMILY.header) == []
        metrics = (await http.get("/metrics")).text
    assert 'requests_total{code="200",route="/v1/openai"} 5.0' in metrics


async def test_the_path_goes_on_as_it_came() -> None:
    """Escapes and the query are the stack's to read; a further route is let through when named."""
    seen = Recording()
    async with in_front_of(seen, routes=["/v1alpha/inference/rerank"]) as proxy:
        for path in (
            "/v1/files/a%2Fb%20c;d..e?x=%2F&y=%252e%252e",
            "/v1/files/100%25",
            "/v1alpha/inference/rerank",
        ):
            await raw(
                proxy,
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
            )
            assert seen.requests[-1][1] == path
        assert b" 405 " in await raw(
            proxy, b"DELETE /v1/models/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )


NAMES = st.one_of(
    st.sampled_from(
        [*sorted(HOP_BY_HOP | CREDENTIALS), *PROVIDER_DATA_HEADERS, "x-auth-user-id", "x-tenant"]
    ),
    st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True),
).flatmap(
    lambda name: st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda ups: "".join(c.upper() if up else c.lower() for c, up in zip(name, ups, strict=True))
    )
)
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.binary(max_size=40).map(lambda value: value.decode("latin-1")),
    st.just('{"azure_api_key": "canary-of-caller"}'),
)


async def _fuzzed(examples: list[list[tuple[str, str]]]) -> tuple[Recording, list[bytes]]:
    seen = Recording()
    async with in_front_of(seen) as proxy:
        answers = []
        for headers in examples:
            data = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
            data += b"Content-Length: %d\r\nConnection: close\r\n" % len(BODY)
            for name, value in headers:
                data += f"{name}: canary-of-caller{value}\r\n".encode("latin-1")
            answers.append(await raw(proxy, data + b"\r\n" + BODY, seconds=0.5))
    return seen, answers


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), min_size=10, max_size=25))
def test_any_headers(examples: list[list[tuple[str, str]]]) -> None:
    """Whatever the headers: an answer, never 500; one header of ours; no credential of theirs."""
    seen, answers = asyncio.run(_fuzzed(examples))
    for answer, headers in zip(answers, examples, strict=True):
        assert answer.split()[:1] in ([b"HTTP/1.1"], [b"HTTP/1.0"]), (answer, headers)
        assert answer.split()[1] in (b"200", b"400", b"417", b"431"), (answer, headers)
        assert TOKEN.encode() not in answer
    for _, _, got, body in seen.requests:
        names = [name.lower() for name, _ in got]
        assert body == BODY
        assert names.count(FAMILY.header.lower()) == 1
        assert names.count("content-length") == names.count("host") == 1
        assert not (HOP_BY_HOP | CREDENTIALS) & {*names}
        for name, value in got:
            if name.lower() in {each.lower() for each in PROVIDER_DATA_HEADERS}:
                assert "canary-of-caller" not in value
                assert json.loads(value)["azure_api_key"].startswith(TOKEN)


async def test_a_model_with_odd_json() -> None:
    """A body that the stack could read in another way is refused, or read as the stack does."""
    seen = Recording()
    async with in_front_of(seen) as proxy, caller(proxy) as http:
        for body in (b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff"):
            answer = await http.post(CHAT, content=body)
            assert answer.status_code == 400, body[:20]
        twice = f'{{"model": "{MODEL}", "model": "openai/gpt-4o"}}'
        assert (await http.post(CHAT, content=twice)).status_code == 200
        assert seen.header(FAMILY.header) == []
        packed = await http.post(CHAT, content=BODY, headers={"Content-Encoding": "gzip"})
        assert packed.status_code == 415


async def test_a_token_is_attached_to_what_the_stack_lists_only() -> None:
    """`GET /v1/models` goes without a token: with one the stack would ask Azure."""
    async with in_front_of(answering) as proxy, caller(proxy) as http:
        listed = await http.get("/v1/models")
    assert [model["id"] for model in listed.json()["data"]] == [MODEL, "openai/gpt-4o"]
