"""Counters and times for Prometheus, in a registry of their own; needs the extra `metrics`.

No label holds what a caller sent: routes, identities, reasons and codes come from fixed sets, and
whatever is not in them counts as `other`.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lightspeed_azure.manager import AzureEntraIDManager
from lightspeed_azure.metrics.states import (
    Credential,
    InboundState,
    Resolver,
    of_credentials,
    of_inbound,
    of_resolvers,
    of_tokens,
)

PREFIX = "lightspeed_azure_"

_FAST = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_WAIT = (0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)

_MOST_VALUES = 64
"""How many values a label may have before the next ones count as `other`."""


class _Label:
    """Keeps the values of a label few."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._is_open = not self._known

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if not self._is_open or len(self._known) >= _MOST_VALUES:
            return "other"
        self._known.add(value)
        return value


class Metrics:
    """Counts requests, and shows the state of tokens and keys when Prometheus asks.

    Safe to use from several threads.

    Args:
        routes: the names that the label `route` may have; without them the first 64.
        clock: seconds from some moment in the past.
    """

    def __init__(
        self, *, routes: Iterable[str] = (), clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.registry = CollectorRegistry()
        self.clock = clock
        # Looking a child up takes longer than counting; labels are few, so these are, too.
        self.child = functools.cache(lambda metric, *values: metric.labels(*values))
        self.route = _Label(routes)
        self._reason = _Label()
        self._watched = _Watched()
        self.registry.register(self._watched)
        ProcessCollector(namespace="lightspeed_azure", registry=self.registry)
        make: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            f"{PREFIX}requests", "Requests that have ended", ["route", "code"], **make
        )
        self.in_flight: set[Tracked] = set()
        in_flight = Gauge(f"{PREFIX}requests_in_flight", "Requests that go on", **make)
        in_flight.set_function(lambda: len(self.in_flight))
        self.overhead = Histogram(
            f"{PREFIX}overhead_seconds",
            "Time to the first byte of the answer, without what others took",
            ["route"],
            buckets=_FAST,
            **make,
        )
        self.time_to_first_byte = Histogram(
            f"{PREFIX}time_to_first_byte_seconds",
            "Time from the request to the first byte of the answer",
            ["route"],
            buckets=_SLOW,
            **make,
        )
        self._waits = Histogram(
            f"{PREFIX}token_wait_seconds",
            "Time that requests waited for a token; stays empty while all is well",
            buckets=_WAIT,
            **make,
        )
        self._rejections = Counter(
            f"{PREFIX}inbound_rejections", "Callers that were not let in", ["reason"], **make
        )
        info = Gauge(f"{PREFIX}build_info", "Always 1", ["version"], **make)
        info.labels(_version()).set(1)

    def request_started(self, route: str) -> "Tracked":
        """Count a request in flight until it is `finished`.

        Args:
            route: the name of the route, never the path itself.
        """
        return Tracked(self, self.route(route))

    def waited_for_token(self, seconds: float) -> None:
        """Note that a request had no token at hand."""
        self._waits.observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a caller that was not let in."""
        self._rejections.labels(self._reason(reason)).inc()

    def watch(self, manager: AzureEntraIDManager) -> Self:
        """Show the tokens of this manager from now on; doing it again changes nothing."""
        self._watched.manager = manager
        return self

    def watch_credentials(self, read: Callable[[], Iterable[Credential]]) -> Self:
        """Show these sources of keys from now on.

        Args:
            read: gives their states; called each time that Prometheus asks.
        """
        self._watched.credentials = read
        return self

    def watch_resolvers(self, read: Callable[[], Iterable[Resolver]]) -> Self:
        """Show these resolvers of keys from now on."""
        self._watched.resolvers = read
        return self

    def watch_inbound(self, read: Callable[[], InboundState]) -> Self:
        """Show the keys by which callers are let in from now on."""
        self._watched.inbound = read
        return self

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type.

        Args:
            accept: the header of that name, by which Prometheus asks for OpenMetrics.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class Tracked:
    """One request, from `Metrics.request_started` on; `finished` ends it, once."""

    __slots__ = ("_began", "_elsewhere", "_left", "_metrics", "_route", "_unanswered")

    def __init__(self, metrics: Metrics, route: str) -> None:
        self._metrics = metrics
        self._route = route
        self._began = metrics.clock()
        self._elsewhere = 0.0
        self._left = 0.0
        self._unanswered = True
        metrics.in_flight.add(self)

    def __enter__(self) -> None:
        self._left = self._metrics.clock()

    def __exit__(self, *exception: object) -> None:
        self._elsewhere += self._metrics.clock() - self._left

    def elsewhere(self) -> Self:
        """Return a context in which others take their time: the stack, the caller, Entra ID.

        What is left of the time to the first byte is the overhead. Contexts do not overlap.
        """
        return self

    def first_byte(self) -> None:
        """Note that the answer begins; only the first call counts."""
        if not self._unanswered:
            return
        self._unanswered = False
        took = self._metrics.clock() - self._began
        self._metrics.child(self._metrics.time_to_first_byte, self._route).observe(took)
        self._metrics.child(self._metrics.overhead, self._route).observe(
            max(0.0, took - self._elsewhere)
        )

    def finished(self, code: int) -> None:
        """Note that the request has ended; only the first call counts.

        Args:
            code: the status of the answer; 499 where the caller has left before it.
        """
        try:
            self._metrics.in_flight.remove(self)
        except KeyError:
            return
        text = str(int(code)) if 100 <= code <= 599 else "other"
        self._metrics.child(self._metrics.requests, self._route, text).inc()


class _Watched(Collector):
    """Reads the states of others when Prometheus asks."""

    def __init__(self) -> None:
        self.manager: AzureEntraIDManager | None = None
        self.credentials: Callable[[], Iterable[Credential]] = tuple
        self.resolvers: Callable[[], Iterable[Resolver]] = tuple
        self.inbound: Callable[[], InboundState] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        families = [*of_credentials(self.credentials()), *of_resolvers(self.resolvers())]
        if self.manager is not None:
            families += of_tokens(self.manager)
        if self.inbound is not None:
            families += of_inbound(self.inbound())
        for family in families:
            make = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            metric = make(PREFIX + family.name, family.text, labels=family.labels)
            for values, number in family.samples.items():
                metric.add_metric(values, number)
            yield metric


def _version() -> str:
    try:
        return version("lightspeed-azure")
    except PackageNotFoundError:
        return "unknown"
