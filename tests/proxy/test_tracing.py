"""Spans say where a request went and how it ended, and nothing of what was in it."""

import sys
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.otel import OpenTelemetry
from lightspeed_azure.proxy.tracing import NoTracing, make_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(name="spans")
def _spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(name="tracing")
def _tracing(spans: InMemorySpanExporter) -> Iterator[OpenTelemetry]:
    """Return what makes spans, and keeps them where the test can look."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = OpenTelemetry(provider, is_own=True)
    yield tracing
    tracing.close()


def test_a_request_is_two_spans_of_the_callers_trace(
    tracing: OpenTelemetry, spans: InMemorySpanExporter
) -> None:
    """The caller's request, and inside it ours to the stack, which sees itself as its child."""
    shown = CIMultiDict(
        {"TraceParent": PARENT, "tracestate": "a=b", "Authorization": "Bearer cAn4ry"}
    )
    with tracing.serving("POST", "/v1/chat/completions", shown) as serving:
        with tracing.calling("POST", "/v1/chat/completions", "stack", 8321) as calling:
            sent = {"Traceparent": PARENT, "X": "y"}
            calling.inject(sent)
            calling.answered(200)
        serving.answered(200)
    inner, outer = spans.get_finished_spans()
    assert (outer.kind, inner.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert outer.name == "POST /v1/chat/completions"
    assert outer.parent is not None
    assert f"{outer.parent.span_id:016x}" == "b7ad6b7169203331"
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert sent == {
        "X": "y",
        "traceparent": f"00-{TRACE}-{inner.context.span_id:016x}-01",
        "tracestate": "a=b",
    }
    assert dict(outer.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
    }
    assert dict(inner.attributes or {})["server.port"] == 8321
    assert "cAn4ry" not in outer.to_json() + inner.to_json()


def test_without_a_parent_a_trace_begins(
    tracing: OpenTelemetry, spans: InMemorySpanExporter
) -> None:
    """A broken traceparent begins one too (Trace Context, section 3.2)."""
    for shown in ({}, {"traceparent": "00-zz"}):
        with tracing.serving("GET", "/v1/models", CIMultiDict(shown)):
            pass
    one, other = spans.get_finished_spans()
    assert one.parent is None
    assert other.parent is None


@pytest.mark.parametrize(
    ("kind", "code", "failed"),
    [
        ("serving", 404, False),
        ("serving", 503, True),
        ("calling", 404, True),
        ("calling", 200, False),
    ],
)
def test_what_is_an_error_depends_on_the_side(
    tracing: OpenTelemetry, spans: InMemorySpanExporter, kind: str, code: int, failed: bool
) -> None:
    """A 404 is the caller's error and not the server's (semantic conventions for HTTP)."""
    span = (
        tracing.serving("GET", "/v1/models", CIMultiDict())
        if kind == "serving"
        else tracing.calling("GET", "/v1/models", "stack", None)
    )
    with span:
        span.answered(code)
    (done,) = spans.get_finished_spans()
    assert (done.status.status_code is StatusCode.ERROR) is failed
    assert (done.attributes or {}).get("error.type") == (str(code) if failed else None)


def test_of_an_exception_only_its_class_is_noted(
    tracing: OpenTelemetry, spans: InMemorySpanExporter
) -> None:
    """Its text may hold what a caller sent."""
    with pytest.raises(ValueError, match="cAn4ry"), tracing.serving("GET", "/", CIMultiDict()):
        raise ValueError("cAn4ry")
    (done,) = spans.get_finished_spans()
    assert (done.attributes or {})["error.type"] == "ValueError"
    assert not done.events
    assert "cAn4ry" not in done.to_json()


def test_an_odd_method_is_no_attribute(tracing: OpenTelemetry, spans: InMemorySpanExporter) -> None:
    """What a caller makes up does not become a name."""
    with tracing.serving("cAn4ry", "other", CIMultiDict()):
        pass
    (done,) = spans.get_finished_spans()
    assert done.name == "HTTP other"
    assert (done.attributes or {})["http.request.method"] == "_OTHER"


def test_without_tracing_the_headers_pass() -> None:
    """Nothing is made, and traceparent is the caller's own."""
    tracing = make_tracing(enabled=False)
    assert isinstance(tracing, NoTracing)
    headers = {"traceparent": PARENT}
    with (
        tracing.serving("GET", "/v1/models", headers) as span,
        tracing.calling("GET", "/", "s", 1) as inner,
    ):
        inner.inject(headers)
        span.answered(200)
    assert headers == {"traceparent": PARENT}
    tracing.close()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "lightspeed_azure.proxy.otel", None)
    with pytest.raises(InvalidConfigurationError, match=r"lightspeed-azure\[otel\]"):
        make_tracing(enabled=True)


def test_a_missing_exporter_is_said() -> None:
    """With what to install; `none` needs none, and `console` comes with the SDK."""
    with pytest.raises(InvalidConfigurationError, match="opentelemetry-exporter-otlp-proto-http"):
        OpenTelemetry.from_environment({"OTEL_TRACES_EXPORTER": "nobodys"})
    for name in ("none", "console"):
        OpenTelemetry.from_environment({"OTEL_TRACES_EXPORTER": name}).close()
