"""Counters and times for Prometheus, in a registry of their own; needs the extra `metrics`.

No label holds what a caller sent: routes, identities, reasons and codes come from fixed sets, and
whatever is not in them counts as `other`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lightspeed_azure.metrics.states import (
    Credential,
    InboundState,
    Resolver,
    of_credentials,
    of_inbound,
    of_resolvers,
    of_tokens,
)
from lightspeed_azure.metrics.tracked import PREFIX, Label, Requests, Tracked
from lightspeed_azure.tokens.manager import AzureEntraIDManager

__all__ = ["PREFIX", "Metrics", "Tracked"]


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
        self._reason = Label()
        self._watched = _Watched()
        self.registry.register(self._watched)
        self._requests = Requests(routes, clock)
        self.registry.register(self._requests)
        ProcessCollector(namespace="lightspeed_azure", registry=self.registry)
        make: dict[str, Any] = {"registry": self.registry}
        self._rejections = Counter(
            f"{PREFIX}inbound_rejections", "Callers that were not let in", ["reason"], **make
        )
        info = Gauge(f"{PREFIX}build_info", "Always 1", ["version"], **make)
        info.labels(_version()).set(1)

    def request_started(self, route: str) -> Tracked:
        """Count a request in flight until it is `finished`.

        Args:
            route: the name of the route, never the path itself.
        """
        return Tracked(self._requests, route)

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
