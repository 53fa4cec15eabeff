"""Prometheus reads what happened, and nothing of what callers sent."""

import threading
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from prometheus_client import Counter
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from resolving import ResolverOfMetrics
from token_cache_fakes import FakeClock
from watched import Credential, Source, watched

from lightspeed_azure.errors import CredentialRejectedError
from lightspeed_azure.metrics import Metrics
from lightspeed_azure.proxy.inbound import InboundStatus


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


def samples(
    metrics: Metrics, accept: str = ""
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what Prometheus would read, as its own parser reads it."""
    body, content_type = metrics.exposition(accept)
    parse: Any = text_string_to_metric_families
    if "openmetrics" in content_type:
        parse = openmetrics.text_string_to_metric_families
    return {
        (
            sample.name.removeprefix("lightspeed_azure_"),
            frozenset(sample.labels.items()),
        ): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample."""
    return samples(metrics).get((name, frozenset(labels.items())))


def test_a_request_is_counted_by_route_and_code() -> None:
    """In flight until it ends, once each, whatever is called twice."""
    metrics = Metrics(routes=["/v1/models"])
    tracked = metrics.request_started("/v1/models")
    assert value(metrics, "requests_in_flight") == 1
    tracked.first_byte()
    tracked.first_byte()
    tracked.finished(200)
    tracked.finished(500)
    assert value(metrics, "requests_in_flight") == 0
    assert value(metrics, "requests_total", route="/v1/models", code="200") == 1
    assert value(metrics, "requests_total", route="/v1/models", code="500") is None
    assert value(metrics, "time_to_first_byte_seconds_count", route="/v1/models") == 1


def test_the_registry_is_one_like_any_other() -> None:
    """A part of it can be read, and a second metric of the same name is an error."""
    metrics = Metrics()
    metrics.request_started("/v1/models").finished(200)
    part = metrics.registry.restricted_registry(["lightspeed_azure_requests_total"])
    assert [sample.value for family in part.collect() for sample in family.samples] == [1]
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("lightspeed_azure_requests", "Something else", registry=metrics.registry)


def test_many_requests_are_each_counted_once() -> None:
    """Also those that are added up in batches, while several threads note and read."""
    metrics = Metrics(routes=["/v1/models"])

    def work() -> None:
        for number in range(500):
            tracked = metrics.request_started("/v1/models")
            if number % 2:
                tracked.first_byte()
            tracked.finished(200 + number % 3)
            if number % 100 == 0:
                metrics.exposition()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    route = {"route": "/v1/models"}
    codes = [value(metrics, "requests_total", **route, code=str(code)) for code in (200, 201, 202)]
    assert codes == [668, 668, 664]
    for name in ("time_to_first_byte_seconds_count", "overhead_seconds_count"):
        assert value(metrics, name, **route) == 1000
    assert value(metrics, "requests_in_flight") == 0


def test_notes_do_not_pile_up_while_nobody_reads() -> None:
    """They are added up by themselves."""
    metrics = Metrics(routes=["/v1/models"])
    for _ in range(10_000):
        tracked = metrics.request_started("/v1/models")
        tracked.first_byte()
        tracked.finished(200)
    tracemalloc.start()
    for _ in range(10_000):
        tracked = metrics.request_started("/v1/models")
        tracked.first_byte()
        tracked.finished(200)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000


def test_overhead_is_what_others_did_not_take() -> None:
    """Of 2.5 s to the first byte the stack took 2 s and the caller 0.4 s: the rest is ours."""
    time = Time()
    metrics = Metrics(clock=time)
    tracked = metrics.request_started("/v1/models")
    time.now += 0.05
    with tracked.elsewhere():
        time.now += 0.4
    time.now += 0.05
    with tracked.elsewhere():
        time.now += 2
    time.now += 0.3
    tracked.waited_for_token(0.3)
    tracked.first_byte()
    route = {"route": "/v1/models"}
    assert value(metrics, "time_to_first_byte_seconds_sum", **route) == pytest.approx(2.8)
    assert value(metrics, "overhead_seconds_sum", **route) == pytest.approx(0.1)


def test_labels_stay_few() -> None:
    """Unknown routes, reasons and codes count as other; no path or word of a caller is a label."""
    metrics = Metrics(routes=["/v1/models"])
    for number in range(200):
        metrics.request_started(f"/v1/{number}").finished(number)
        metrics.rejected(f"reason {number}")
    found = samples(metrics)
    assert value(metrics, "requests_total", route="other", code="other") == 100
    assert {labels for name, labels in found if name == "requests_total"} == {
        frozenset({("route", "other"), ("code", code)})
        for code in ("other", *map(str, range(100, 200)))
    }
    assert len([1 for name, _ in found if name == "inbound_rejections_total"]) == 65
    open_ended = Metrics()
    for number in range(200):
        open_ended.request_started(f"/v1/{number}").finished(200)
    assert len([1 for name, _ in samples(open_ended) if name == "requests_total"]) == 65


def test_waiting_for_a_token_is_a_histogram_that_stays_empty() -> None:
    """It is there from the start, so that a rule over it has something to look at."""
    metrics = Metrics()
    assert value(metrics, "token_wait_seconds_count") == 0
    metrics.request_started("/v1/models").waited_for_token(0.3)
    assert value(metrics, "token_wait_seconds_count") == 1
    assert value(metrics, "token_wait_seconds_sum") == pytest.approx(0.3)


def test_tokens_are_shown_by_identity() -> None:
    """When each expires, whether it is usable, renewals by result, and how many had to wait."""
    clock, source = FakeClock(), Source()
    manager = watched(clock, source, "azure", "azure-eu")
    metrics = Metrics().watch(manager)
    one = {"identity": "azure"}
    assert value(metrics, "token_usable", **one) == 0
    assert value(metrics, "token_expiry_timestamp_seconds", **one) is None
    manager.identities[0].get_token()
    assert value(metrics, "token_usable", **one) == 1
    assert value(metrics, "token_expiry_timestamp_seconds", **one) == clock.wall_now + 3600
    assert value(metrics, "token_renewals_total", **one, result="success") == 1
    assert value(metrics, "token_renewals_total", **one, result="failure") == 0
    assert value(metrics, "token_waits_total", **one) == 1
    assert value(metrics, "token_usable", identity="azure-eu") == 0
    source.refuses = True
    with pytest.raises(CredentialRejectedError):
        manager.identities[1].get_token()
    assert value(metrics, "token_renewals_total", identity="azure-eu", result="failure") == 1
    assert value(metrics, "token_consecutive_failures", identity="azure-eu") == 1
    assert value(metrics.watch(manager), "token_usable", **one) == 1, "watching twice shows it once"


def test_keys_and_resolvers_are_shown() -> None:
    """Reloads by result, how old a value is, and in which state a resolver is."""
    credentials: Iterable[Credential] = [
        Credential(),
        Credential(None, "remote::gemini", "gemini_api_key", age=None),
    ]
    metrics = (
        Metrics()
        .watch_credentials(lambda: credentials)
        .watch_resolvers(lambda: [ResolverOfMetrics()])
    )
    openai = {"credential": "openai", "source": "file"}
    assert value(metrics, "credential_reloads_total", **openai, result="success") == 3
    assert value(metrics, "credential_reloads_total", **openai, result="failure") == 2
    assert value(metrics, "credential_age_seconds", **openai) == 12
    gemini = {"credential": "remote::gemini.gemini_api_key", "source": "file"}
    assert value(metrics, "credential_usable", **gemini) == 1
    assert value(metrics, "credential_age_seconds", **gemini) is None
    states = {
        state: value(metrics, "resolver_state", resolver="vault", state=state)
        for state in ("closed", "open", "half_open")
    }
    assert states == {"closed": 0, "open": 1, "half_open": 0}
    assert value(metrics, "resolver_replies_total", resolver="vault", result="failure") == 1


def test_the_same_name_twice_is_one_sample() -> None:
    """Prometheus would refuse the whole page for a sample that stands twice."""
    metrics = Metrics().watch_credentials(lambda: [Credential(), Credential()])
    openai = {"credential": "openai", "source": "file"}
    assert value(metrics, "credential_reloads_total", **openai, result="failure") == 4


def test_inbound_is_shown() -> None:
    """Whether callers can be let in, by how many keys, and how fetching them went."""
    state = InboundStatus("jwt", ready=True, keys=2, reloads=1, failures=4, last_error="x")
    metrics = Metrics().watch_inbound(lambda: state)
    assert value(metrics, "inbound_ready", kind="jwt") == 1
    assert value(metrics, "inbound_keys", kind="jwt") == 2
    assert value(metrics, "inbound_key_reloads_total", kind="jwt", result="failure") == 4
    metrics.rejected("expired")
    assert value(metrics, "inbound_rejections_total", reason="expired") == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("garbage;;;q=x,\u00e9", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_both_formats_say_the_same(accept: str, content_type: str) -> None:
    """OpenMetrics to who asks for it, the older text to everybody else; both are valid."""
    metrics = Metrics()
    metrics.request_started("/v1/models").finished(200)
    assert metrics.exposition(accept)[1].startswith(content_type)
    found = samples(metrics, accept)
    assert found[("requests_total", frozenset({("route", "/v1/models"), ("code", "200")}))] == 1


def test_a_service_of_ones_own_shows_them_in_three_lines() -> None:
    """The route of docs/observability.md, as it stands there."""
    metrics = Metrics().watch(watched(FakeClock(), Source(), "azure"))
    app = FastAPI()

    @app.get("/metrics")
    def exposition(request: Request) -> Response:
        body, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    with TestClient(app) as http:
        answer = http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert 'lightspeed_azure_token_usable{identity="azure"} 0.0' in answer.text
    assert "cAn4ry" not in answer.text


def test_registries_stay_apart() -> None:
    """Two in one process share nothing, and neither is in the process-wide registry."""
    from prometheus_client import REGISTRY, generate_latest

    one, other = Metrics(), Metrics()
    one.rejected("expired")
    assert value(other, "inbound_rejections_total", reason="expired") is None
    assert b"lightspeed_azure" not in generate_latest(REGISTRY)
