"""Spans of the proxy, where OpenTelemetry is installed and wanted; else nothing, at no cost.

Without spans of its own the proxy passes `traceparent` and `tracestate` on as they came; with them,
the stack sees the proxy's span as its parent (https://www.w3.org/TR/trace-context/).
"""

from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Protocol, Self

from lightspeed_azure.errors import InvalidConfigurationError


class Span(Protocol):
    """One piece of work, while it is entered; names and codes only are noted of it."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; of an error only its class is noted."""
        ...

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Put `traceparent` and `tracestate` of this span in the place of those in `headers`."""
        ...

    def answered(self, code: int) -> None:
        """Note the status of the answer."""
        ...


class Tracing(Protocol):
    """Makes spans."""

    def serving(self, method: str, route: str, headers: Mapping[str, str]) -> Span:
        """Return the span of a caller's request.

        Args:
            method: the HTTP method.
            route: the name of the route, never the path.
            headers: the caller's, with case-insensitive names; only the trace's are read.
        """
        ...

    def calling(self, method: str, route: str, host: str, port: int | None) -> Span:
        """Return the span of a request to the stack, inside the one that is entered now."""
        ...

    def close(self) -> None:
        """Send what has not been sent; may wait for the collector."""
        ...


class _NoSpan:
    """Notes nothing."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the error pass."""

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Leave the headers as they came."""

    def answered(self, code: int) -> None:
        """Note nothing."""


_NO_SPAN = _NoSpan()


class NoTracing:
    """Makes no spans."""

    def serving(self, method: str, route: str, headers: Mapping[str, str]) -> Span:
        """Return a span that notes nothing."""
        del method, route, headers
        return _NO_SPAN

    def calling(self, method: str, route: str, host: str, port: int | None) -> Span:
        """Return a span that notes nothing."""
        del method, route, host, port
        return _NO_SPAN

    def close(self) -> None:
        """Nothing is left."""


def make_tracing(*, enabled: bool) -> Tracing:
    """Return what makes the spans.

    Spans go where the process's tracer provider sends them; without one, to the exporter that
    OTEL_TRACES_EXPORTER names (`otlp` when it is unset).

    Args:
        enabled: whether spans are wanted.

    Raises:
        InvalidConfigurationError: they are, and OpenTelemetry or the exporter is not installed.
    """
    if not enabled:
        return NoTracing()
    try:
        from lightspeed_azure.proxy.otel import OpenTelemetry  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidConfigurationError(
            "proxy.tracing: is true, and OpenTelemetry is not installed; "
            "pip install 'lightspeed-azure[otel]', or set it to false"
        ) from None
    return OpenTelemetry.from_environment()
