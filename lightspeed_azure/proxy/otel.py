"""Spans by OpenTelemetry: the only file that imports it.

Names by the semantic conventions for HTTP 1.40
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/). `url.path` is left out: it may hold
the ids of answers, and whatever a caller put there; `http.route` says where a request went.
"""

import os
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lightspeed_azure.errors import InvalidConfigurationError

_W3C = TraceContextTextMapPropagator()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_TRACE_HEADERS = ("traceparent", "tracestate")


class OpenTelemetry:
    """Makes spans by a tracer provider.

    Args:
        provider: where spans go.
        is_own: whether it is closed with this.
    """

    def __init__(self, provider: trace.TracerProvider, *, is_own: bool = False) -> None:
        self._own = provider if is_own and isinstance(provider, TracerProvider) else None
        self._tracer = provider.get_tracer("lightspeed_azure.proxy")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Use the process's provider, or make one with the exporters that the environment names.

        Raises:
            InvalidConfigurationError: an exporter is not installed.
        """
        provider = trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            return cls(provider)
        own = TracerProvider(shutdown_on_exit=False)
        for name in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
            if name.strip() not in ("", "none"):
                own.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environ)))
        return cls(own, is_own=True)

    def serving(self, method: str, route: str, headers: Mapping[str, str]) -> "OtelSpan":
        """Return the span of a caller's request, a child of the caller's own."""
        carrier = {name: headers[name] for name in _TRACE_HEADERS if name in headers}
        name, attributes = _common(method, route)
        return OtelSpan(
            self._tracer.start_as_current_span(
                name,
                _W3C.extract(carrier),
                trace.SpanKind.SERVER,
                attributes,
                record_exception=False,
                set_status_on_exception=False,
            ),
            error_from=500,
        )

    def calling(self, method: str, route: str, host: str, port: int | None) -> "OtelSpan":
        """Return the span of a request to the stack."""
        name, attributes = _common(method, route)
        attributes["server.address"] = host
        if port is not None:
            attributes["server.port"] = port
        return OtelSpan(
            self._tracer.start_as_current_span(
                name,
                kind=trace.SpanKind.CLIENT,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ),
            error_from=400,
        )

    def close(self) -> None:
        """Send what has not been sent, if the provider is our own; may wait for the collector."""
        if self._own is not None:
            self._own.shutdown()


class OtelSpan:
    """One span, the current one while it is entered."""

    def __init__(self, context: AbstractContextManager[trace.Span], *, error_from: int) -> None:
        self._context = context
        self._error_from = error_from
        self._span: trace.Span = trace.INVALID_SPAN

    def __enter__(self) -> Self:
        self._span = self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:  # its text may hold what a caller sent
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(trace.StatusCode.ERROR)
        self._context.__exit__(kind, error, traceback)

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Put this span's `traceparent` and `tracestate` in the place of the caller's."""
        for name in [name for name in headers if name.lower() in _TRACE_HEADERS]:
            del headers[name]
        _W3C.inject(headers, trace.set_span_in_context(self._span))

    def answered(self, code: int) -> None:
        """Note the status of the answer."""
        self._span.set_attribute("http.response.status_code", code)
        if code >= self._error_from:
            self._span.set_attribute("error.type", str(code))
            self._span.set_status(trace.StatusCode.ERROR)


def _common(method: str, route: str) -> tuple[str, dict[str, str | int]]:
    known = method if method in _METHODS else "_OTHER"
    name = f"{'HTTP' if known == '_OTHER' else known} {route}"
    return name, {"http.request.method": known, "http.route": route}


def _exporter(name: str, environ: Mapping[str, str]) -> Any:
    """Return the exporter of that name, as OpenTelemetry's SDK finds it."""
    if name == "otlp":
        general = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()()
    raise InvalidConfigurationError(
        f"proxy.tracing: no exporter {name!r} is installed (OTEL_TRACES_EXPORTER); "
        "pip install opentelemetry-exporter-otlp-proto-http, or set it to none"
    )
