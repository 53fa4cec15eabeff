"""What the proxy answers itself: probes, the client's configuration, metrics and status."""

import asyncio
import functools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from fake_stack import serving
from proxying import (
    CHAT,
    QUESTION,
    TOKEN,
    Hanging,
    Recording,
    Switch,
    caller,
    eventually,
    in_front_of,
    named,
    proxying,
    signed_in,
)
from token_cache_fakes import FakeClock

from lightspeed_azure import AzureEntraIDManager, InvalidConfigurationError
from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.proxy.endpoints import OPENAPI, client_config
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.proxy.status import Probes

NOWHERE = "http://127.0.0.1:9"
KEY = "a-key-of-a-caller-of-this-proxy"


async def test_probes_while_all_is_well() -> None:
    """It starts, lives and is ready by itself, without a request, and with the stack away."""
    manager = signed_in()
    async with proxying(NOWHERE, manager) as proxy, caller(proxy) as http:
        for path in ("/startupz", "/readyz", "/livez"):
            answer = await eventually(functools.partial(http.get, path), 200)
            assert answer.json() == {"status": "ok"}
    manager.close()


async def test_probes_without_a_token() -> None:
    """A proxy that gets no token has started, lives, and is not ready."""
    manager = AzureEntraIDManager.isolated({"credential": "proxying:Broken"})
    async with proxying(NOWHERE, manager) as proxy, caller(proxy) as http:
        await eventually(lambda: http.get("/startupz"), 200)
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "no token")
        assert (await http.get("/livez")).status_code == 200
    manager.close()


async def test_probes_do_not_wait_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the sign-in hangs they answer, on both ports; once it has answered they say so."""
    hanging = Hanging()
    manager = AzureEntraIDManager.isolated(
        {"credential": named(hanging, monkeypatch), "deadline": 60}
    )
    try:
        async with (
            proxying(NOWHERE, manager) as proxy,
            caller(proxy) as http,
            httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False) as admin,
        ):
            async with asyncio.timeout(20):  # far below the deadline
                for client in (http, admin):
                    answer = await client.get("/readyz")
                    told = {"status": "no token", "failing": []}
                    assert (answer.status_code, answer.json()) == (503, told)
                    answer = await client.get("/startupz")
                    assert (answer.status_code, answer.json()["status"]) == (503, "starting")
                    assert (await client.get("/livez")).status_code == 200
            hanging.go_on.set()
            await eventually(lambda: http.get("/readyz"), 200)
    finally:
        hanging.go_on.set()
        manager.close()


async def test_probes_without_entra_id() -> None:
    """Where no token is needed none is waited for."""
    async with (
        proxying(NOWHERE, AzureEntraIDManager.isolated()) as proxy,
        caller(proxy) as http,
    ):
        assert (await http.get("/startupz")).status_code == 200
        assert (await http.get("/readyz")).json() == {"status": "ok"}


def test_readiness_follows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Degraded while renewals fail; not ready once the token is gone; a probe alone renews it."""
    clock = FakeClock()
    clock.wall_now = time.time()
    switch = Switch(clock)
    manager = AzureEntraIDManager.isolated(
        {"credential": named(switch, monkeypatch)},
        clock=clock,
        launch=lambda _name, run: run(),
        random=lambda: 0.0,
    )
    probes = Probes(manager)
    assert probes.started()[0] == 503
    probes.ready()  # it was asked for by the probe
    assert probes.started()[0] == 200
    assert probes.ready() == (200, {"status": "ok"})
    switch.works = False
    clock.mono_now += 60
    clock.wall_now += 60
    manager.identities[0].cache.renew_if_due()
    assert probes.ready()[1]["status"] == "degraded"
    clock.mono_now += 60
    clock.wall_now += 60
    assert probes.ready()[0] == 503
    switch.works = True
    clock.mono_now += 3600
    clock.wall_now += 3600
    probes.ready()
    assert probes.ready() == (200, {"status": "ok"})
    probes.draining = True
    assert probes.ready() == (503, {"status": "draining"})
    manager.close()


async def test_the_admin_port() -> None:
    """Metrics and status are for operators; nothing of the stack is there, and no token in them."""
    seen = Recording()
    async with (
        in_front_of(seen, dependents=["solution-server"]) as proxy,
        caller(proxy) as http,
        httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False) as admin,
    ):
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        assert (await http.get("/v1/nothing-here")).status_code == 404
        metrics = (await admin.get("/metrics")).text
        assert f'requests_total{{code="200",route="{CHAT}"}} 1.0' in metrics
        assert 'requests_total{code="404",route="other"} 1.0' in metrics
        assert "nothing-here" not in metrics
        assert "token_wait_seconds_count" in metrics
        status = (await admin.get("/status")).json()
        assert {each["type"]: each["status"] for each in status["conditions"]} == {
            "LLMProxyReady": "True",
            "APIKeysConfigured": "True",
            "SolutionServerReady": "True",
        }
        assert TOKEN not in metrics + json.dumps(status)
        for path in ("/v1/models", CHAT, "/client-config"):
            assert (await admin.get(path)).status_code == 404
        assert (await admin.post("/metrics")).status_code == 405
        assert (await admin.get("/livez")).status_code == 200


FOREIGN = (
    "The admin port answers only to IP addresses, localhost and the names in proxy.admin_names, and "
    "to no web page; call it by its address, or add the name"
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:8081"}, 200),
        ({"Host": "10.1.2.3:9090"}, 200),  # Prometheus and kubelets ask pods by their address
        ({"Host": "[fd00::7]:9090"}, 200),
        ({"Host": "Llm-Proxy.example"}, 200),
        ({"Host": "llm-proxy.example:9090"}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8081"}, 403),
        ({"Host": "llm-proxy.example.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "a" * 400}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://llm-proxy.example"}, 403),
        ({"Origin": "http://10.1.2.3"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_the_admin_port_is_not_for_web_pages(headers: dict[str, str], status: int) -> None:
    """A name that a page could have made lead here gets nothing but probes."""
    manager = signed_in()
    names = ["Llm-Proxy.example"]
    async with (
        proxying(NOWHERE, manager, admin_names=names) as proxy,
        httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False, headers=headers) as admin,
    ):
        for path in ("/status", "/metrics", "/openapi.json"):
            answer = await admin.get(path)
            assert answer.status_code == status, path
            if status == 403:
                assert answer.json()["error"]["message"] == FOREIGN
        assert (await admin.get("/v1/models")).status_code == (403 if status == 403 else 404)
        for path in ("/livez", "/startupz", "/readyz"):
            assert (await admin.get(path)).status_code != 403
    manager.close()


async def test_callers_must_be_known(tmp_path: Path) -> None:
    """With inbound authentication a stranger gets the probes, and nothing else."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    seen = Recording()
    inbound = {"kind": "api_keys", "api_keys_file": str(keys)}
    async with in_front_of(seen, inbound=inbound) as proxy, caller(proxy) as http:
        for path in (
            "/v1/models",
            "/client-config",
            "/metrics",
            "/status",
            "/nowhere",
            "/openapi.json",
        ):
            answer = await http.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["error"]["type"] == "authentication_error"
        assert (await http.post(CHAT, json=QUESTION)).status_code == 401
        assert (await http.get("/livez")).status_code == 200
        assert seen.requests == []
        known = {"Authorization": f"Bearer {KEY}"}
        assert (await http.post(CHAT, json=QUESTION, headers=known)).status_code == 200
        assert KEY not in repr(seen.requests)
        metrics = (await http.get("/metrics", headers=known)).text
        assert 'inbound_rejections_total{reason="missing"} 7.0' in metrics


def test_everybody_on_every_address_must_be_said_in_words() -> None:
    """Binding to more than loopback without authentication is refused, unless asked for."""

    async def start(**config: Any) -> None:
        async with proxying(NOWHERE, AzureEntraIDManager.isolated(), host="0.0.0.0", **config):  # noqa: S104 - that is the point
            pass

    with pytest.raises(InvalidConfigurationError, match="allow_unauthenticated"):
        asyncio.run(start())
    asyncio.run(start(inbound={"kind": "none", "allow_unauthenticated": True}))


def models(*identifiers: str, kind: str = "llm") -> dict[str, Any]:
    """Return a listing of models `<provider>/<model>`."""
    about = {"model_type": kind}
    return {
        "data": [
            {"id": each, "custom_metadata": {**about, "provider_id": each.partition("/")[0]}}
            for each in identifiers
        ]
    }


@pytest.mark.parametrize(
    ("listed", "config", "query", "expected"),
    [
        (models("azure/a"), {}, {}, "azure/a"),
        (models("azure/a", "openai/b"), {}, {}, 409),
        (models("azure/a", "openai/b"), {"client_provider": "azure"}, {}, "azure/a"),
        (models("azure/a", "openai/a"), {"client_model": "a"}, {}, 409),
        (models("azure/a", "openai/a"), {"client_model": "openai/a"}, {}, "openai/a"),
        (models("azure/a", "openai/b"), {"client_provider": "gone"}, {}, 503),
        (models("azure/a"), {"client_model": "gone"}, {}, 503),
        (models("azure/a", "openai/b"), {"client_provider": "azure"}, {"model": "b"}, "openai/b"),
        (models("azure/a", "azure/b"), {}, {"provider": "azure"}, 400),
        (models("azure/a"), {}, {"provider": "openai"}, 404),
        (models("azure/a"), {}, {"model": "null"}, 404),
        (models("azure/a"), {}, {"model": ""}, 404),
        (models(), {}, {}, 503),
        (models("azure/e", kind="embedding"), {}, {}, 503),
        (models("azure/meta/llama"), {}, {"model": "meta/llama"}, "azure/meta/llama"),
        ({"data": [{"id": "x"}, {"id": "y", "custom_metadata": None}]}, {}, {}, 503),
    ],
)
def test_client_config(
    listed: dict[str, Any], config: dict[str, Any], query: dict[str, str], expected: str | int
) -> None:
    """A model that there is, with its provider; else an error: never a null, never a default."""
    settings = ProxyConfiguration(**config, external_url="https://llm.example/base/")
    if isinstance(expected, int):
        with pytest.raises(Failure) as caught:
            client_config(listed, settings, query, "http://own")
        assert caught.value.status == expected
        for entry in listed["data"]:
            about = entry.get("custom_metadata") or {}
            if about.get("model_type") == "llm":
                assert about["provider_id"] in caught.value.message
    else:
        told = client_config(listed, settings, query, "http://own")
        assert told == {"model": expected, "base_url": "https://llm.example/base/v1"}


async def test_client_config_without_a_stack() -> None:
    """No stack, or one that answers with an error, is no configuration."""
    async with (
        proxying(NOWHERE, AzureEntraIDManager.isolated()) as proxy,
        caller(proxy) as http,
    ):
        assert (await http.get("/client-config")).status_code == 502

    answers = [(500, "<html>")]
    answers += [(200, text) for text in ("<html>", "{}", "[]", "null", '{"data": [3]}')]
    answers += [(200, '{"data": [{"custom_metadata": {"provider_id": "azure"}}]}')]

    async def broken(_: web.BaseRequest) -> web.StreamResponse:
        status, text = answers[0]
        return web.Response(status=status, text=text)

    async with (
        serving(broken) as url,
        proxying(url, AzureEntraIDManager.isolated()) as proxy,
        caller(proxy) as http,
    ):
        while answers:
            assert (await http.get("/client-config")).status_code == 502, answers[0]
            del answers[0]


@pytest.fixture
def described(tmp_path: Path) -> Iterator[str]:
    """The URL of a proxy that runs on a thread of its own, as schemathesis blocks this one."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    inbound = {"kind": "api_keys", "api_keys_file": str(keys)}
    ready, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> AsyncIterator[None]:
        async with in_front_of(Recording(), inbound=inbound) as proxy:
            urls.append(proxy.url)
            ready.set()
            await asyncio.to_thread(over.wait)
        yield

    async def main() -> None:
        async for _ in serve():
            pass

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    yield urls[0]
    over.set()
    thread.join()


def test_own_endpoints_keep_to_their_description(described: str) -> None:
    """Whatever is asked of the proxy's own endpoints, they answer as their description says."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    known = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_url(f"{described}/openapi.json", headers=known)
    assert set(schema.raw_schema["paths"]) == set(OPENAPI["paths"])
    asked = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # our own description is valid

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers=known)

        check()
    assert asked > 20
