"""The lifespan and the dependency, in a real application on a real Llama Stack."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from integration_support import MODEL, ask, entra_block, load_example

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.demo.scenario import example_service
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.fastapi import ClientDep, RuntimeDep, lifespan, runtime
from lightspeed_azure.fastapi import client as dependency

pytestmark = pytest.mark.integration


def application(config: dict[str, Any], **options: Any) -> FastAPI:
    """Return a service as a user would write it."""
    app = FastAPI(lifespan=lifespan(config, **options))

    @app.post("/query")
    async def query(client: ClientDep) -> str:
        return await ask(client, "hello")

    @app.get("/models")
    async def models(client: ClientDep) -> list[str]:
        return [model.id for model in await client.models.list()]

    @app.get("/readyz")
    async def readyz(runtime: RuntimeDep) -> dict[str, Any]:
        return runtime.readiness()

    return app


@pytest.fixture
def config(emulators: Emulators, stack_url: str) -> dict[str, Any]:
    """A service-mode configuration."""
    return {"llama_stack": {"url": stack_url}, "azure_entra_id": entra_block(emulators)}


@pytest.fixture
def http(config: dict[str, Any]) -> Iterator[TestClient]:
    """A running application."""
    with TestClient(application(config)) as client:
        yield client


def test_a_query_is_answered(http: TestClient, emulators: Emulators) -> None:
    """The endpoint's client carries a token, fetched at the first query."""
    assert emulators.entra.requests.requested == 0
    assert "hello" in http.post("/query").json()
    assert emulators.azure.requests.accepted == 1


def test_readiness_reads_memory_only(http: TestClient, emulators: Emulators) -> None:
    """The probe asks nobody, and holds no secret."""
    before = http.get("/readyz")
    assert before.json()["ready"] is True
    assert before.json()["tokens"][0]["zone"] == "empty"
    assert emulators.entra.requests.requested == 0
    http.post("/query")
    after = http.get("/readyz")
    assert after.json()["tokens"][0]["zone"] == "fresh"
    assert emulators.entra.application.client_secret.get_secret_value() not in after.text
    assert emulators.azure.requests.total == 1


def test_an_outage_is_503_with_retry_after(config: dict[str, Any], emulators: Emulators) -> None:
    """Without a token the caller gets a problem document and when to try again; no secret in it."""
    emulators.entra.fault(Fault.status(503, retry_after=7))
    with TestClient(application(config)) as http:
        answer = http.post("/query")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
        assert "detail" in answer.json()
        assert emulators.entra.application.client_secret.get_secret_value() not in answer.text
        assert http.get("/models").status_code == 200, "other calls go on"
        assert http.get("/readyz").json()["ready"] is False


def test_it_starts_while_the_stack_and_entra_id_are_down(
    config: dict[str, Any], emulators: Emulators, stack_url: str
) -> None:
    """Start-up needs nobody; the query that needs the stack says 503."""
    emulators.entra.fault(Fault.reset())
    config["llama_stack"] = {"url": "http://127.0.0.1:9"}
    with TestClient(application(config)) as http:
        assert http.get("/readyz").status_code == 200
        assert http.post("/query").status_code == 503


def test_the_applications_own_lifespan_runs_inside(config: dict[str, Any]) -> None:
    """Its state is kept beside ours, and it can use the client already."""
    events: list[str] = []

    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        events.append("up")
        yield {"own": 42}
        events.append("down")

    app = application(config, inner=inner)

    @app.get("/own")
    async def own(request: Request) -> int:
        assert runtime(request).manager.is_entra_id_configured
        return int(request.state.own)

    with TestClient(app) as http:
        assert http.get("/own").json() == 42
        assert events == ["up"]
    assert events == ["up", "down"]


def test_two_applications_stay_apart(config: dict[str, Any], emulators: Emulators) -> None:
    """Two in one process, given two configurations, have a manager each."""
    other = config | {"azure_entra_id": entra_block(emulators) | {"client_secret": "wrong"}}
    with TestClient(application(config)) as good, TestClient(application(other)) as bad:
        assert bad.post("/query").status_code == 503
        assert good.post("/query").status_code == 200


def test_process_wide_instances_are_those_of_the_application(config: dict[str, Any]) -> None:
    """Code that knows only the singletons finds the application's, while it runs."""
    with TestClient(application(config, process_wide=True)) as http:
        assert AzureEntraIDManager().is_entra_id_configured
        assert AsyncLlamaStackClientHolder().is_loaded
        http.post("/query")
        assert not AzureEntraIDManager().is_token_expired
    assert not AsyncLlamaStackClientHolder().is_loaded


def test_prefetch_fetches_behind(config: dict[str, Any], emulators: Emulators) -> None:
    """With `prefetch` the token is there before the first query, and start-up did not wait."""
    config["azure_entra_id"]["prefetch"] = True
    with TestClient(application(config)) as http:
        assert http.post("/query").status_code == 200
    assert emulators.entra.requests.issued == 1


def test_a_sub_application_finds_the_client(config: dict[str, Any]) -> None:
    """A mounted application shares the lifespan state."""
    outer = FastAPI(lifespan=lifespan(config))
    inner = FastAPI()

    @inner.post("/query")
    async def query(client: ClientDep) -> str:
        return await ask(client, "inside", MODEL)

    outer.mount("/inner", inner)
    with TestClient(outer) as http:
        assert "inside" in http.post("/inner/query").json()


def test_without_the_lifespan_the_error_says_what_to_do() -> None:
    """A dependency without a lifespan is a mistake in the code, and says how to mend it."""
    app = FastAPI()

    @app.get("/")
    async def root(client: ClientDep) -> None:
        """Never reached."""

    with TestClient(app) as http, pytest.raises(RuntimeError, match="lifespan"):
        http.get("/")


def test_a_dependency_can_be_overridden(config: dict[str, Any]) -> None:
    """A user's own test stands a client of its own in, without a stack or a token."""
    app = application(config)

    class Models:
        async def list(self) -> list[Any]:
            return []

    class Fake:
        models = Models()

    app.dependency_overrides[dependency] = Fake
    with TestClient(app) as http:
        assert http.get("/models").json() == []


@pytest.mark.parametrize("library", [False, True])
def test_the_example_service_says_503_for_streams_too(
    emulators: Emulators,
    stack_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    library: bool,
) -> None:
    """The upstream stream is opened before the response begins, so its error is still a status."""
    home = example_service(tmp_path / "service", library=library)
    for name, value in (emulators.environment() | {"LLAMA_STACK_URL": stack_url}).items():
        monkeypatch.setenv(name, value)
    emulators.entra.fault(Fault.status(503))
    with TestClient(load_example(home, monkeypatch)) as http:
        for path in ("/query", "/query/stream"):
            answer = http.post(path, json={"query": "hello"})
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
        emulators.entra.clear_faults()
        assert http.post("/query", json={"query": ""}).status_code == 422


async def test_several_workers_have_a_token_each(
    emulators: Emulators, stack_url: str, tmp_path: Path
) -> None:
    """Two worker processes of one service answer; each has fetched one token."""
    home = example_service(tmp_path / "service", library=False)
    environment = {name: value for name, value in os.environ.items() if "AZURE" not in name}
    url = f"http://127.0.0.1:{free_port()}"
    uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--workers", "2"]
    async with (
        server(
            [*uvicorn, "--port", url.rpartition(":")[2], "--log-level", "warning"],
            health=f"{url}/openapi.json",
            folder=home,
            environment=environment | emulators.environment() | {"LLAMA_STACK_URL": stack_url},
            log=home / "service.log",
        ),
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        for _ in range(40):
            # A connection of its own for each, so that the kernel spreads them.
            answer = await http.post(
                "/query", json={"query": "hello"}, headers={"Connection": "close"}
            )
            assert answer.status_code == 200, answer.text
    assert emulators.azure.requests.accepted == 40
    assert emulators.entra.requests.issued == len(emulators.azure.requests.accepted_by_token) <= 2
