"""Requests as they are counted: noted in passing, and added up in batches.

Asked once a request, Prometheus's own counters are among the dearest things that the proxy does about
it. Many at a time take a fraction of that, as what they need is at hand then.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

PREFIX = "lightspeed_azure_"

_FAST = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_WAIT = (0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)

_MOST_VALUES = 64
"""How many values a label may have before the next ones count as `other`."""

_BATCH = 64
"""How many notes are added up at once."""


class Label:
    """Keeps the values of a label few.

    Args:
        known: what it may be; without them whatever comes first.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._is_open = not self._known

    def __call__(self, value: str) -> str:
        """Return the value, or `other`."""
        if value in self._known:
            return value
        if not self._is_open or len(self._known) >= _MOST_VALUES:
            return "other"
        self._known.add(value)
        return value


class Requests(Collector):
    """Counts requests. Safe to use from several threads.

    Args:
        routes: the names that the label `route` may have; without them the first 64.
        clock: seconds from some moment in the past.
    """

    def __init__(self, routes: Iterable[str], clock: Callable[[], float]) -> None:
        self.clock = clock
        self.route = Label(routes)
        self.in_flight: set[Tracked] = set()
        self._began: deque[tuple[str, float, float]] = deque()
        self._ended: deque[tuple[str, int]] = deque()
        in_flight = Gauge(f"{PREFIX}requests_in_flight", "Requests that go on", registry=None)
        in_flight.set_function(lambda: len(self.in_flight))
        ended = Counter(
            f"{PREFIX}requests", "Requests that have ended", ["route", "code"], registry=None
        )
        overhead = Histogram(
            f"{PREFIX}overhead_seconds",
            "Time to the first byte of the answer, without what others took",
            ["route"],
            buckets=_FAST,
            registry=None,
        )
        time_to_first_byte = Histogram(
            f"{PREFIX}time_to_first_byte_seconds",
            "Time from the request to the first byte of the answer",
            ["route"],
            buckets=_SLOW,
            registry=None,
        )
        waits = Histogram(
            f"{PREFIX}token_wait_seconds",
            "Time that requests waited for a token; stays empty while all is well",
            buckets=_WAIT,
            registry=None,
        )
        self.waited = waits.observe
        # Looking a child up takes longer than counting; labels are few, so these are, too.
        self._requests = functools.cache(ended.labels)
        self._overhead = functools.cache(overhead.labels)
        self._time_to_first_byte = functools.cache(time_to_first_byte.labels)
        self._metrics = (ended, in_flight, overhead, time_to_first_byte, waits)

    def describe(self) -> Iterator[Metric]:
        """Yield the names and kinds, as registries ask for them."""
        for metric in self._metrics:
            yield from metric.describe()

    def collect(self) -> Iterator[Metric]:
        """Yield what is counted, up to now."""
        self._add_up()
        for metric in self._metrics:
            yield from metric.collect()

    def began(self, route: str, took: float, overhead: float) -> None:
        """Note that an answer has begun, after `took` seconds, of which `overhead` were ours."""
        self._began.append((route, took, overhead))

    def ended(self, route: str, code: int) -> None:
        """Note that a request has ended."""
        self._ended.append((route, code))
        if len(self._ended) >= _BATCH:
            self._add_up()

    def _add_up(self) -> None:
        for route, took, overhead in _taken(self._began):
            self._time_to_first_byte(route).observe(took)
            self._overhead(route).observe(overhead)
        for route, code in _taken(self._ended):
            self._requests(route, str(int(code)) if 100 <= code <= 599 else "other").inc()


def _taken[T](notes: deque[T]) -> Iterator[T]:
    """Yield each note once, whichever threads ask."""
    while True:
        try:
            yield notes.popleft()
        except IndexError:
            return


class Tracked:
    """One request, from `Metrics.request_started` on; `finished` ends it, once."""

    __slots__ = ("_began", "_elsewhere", "_left", "_requests", "_route", "_unanswered")

    def __init__(self, requests: Requests, route: str) -> None:
        self._requests = requests
        self._route = requests.route(route)
        self._began = requests.clock()
        self._elsewhere = 0.0
        self._left = 0.0
        self._unanswered = True
        requests.in_flight.add(self)

    def __enter__(self) -> None:
        self._left = self._requests.clock()

    def __exit__(self, *exception: object) -> None:
        self._elsewhere += self._requests.clock() - self._left

    def elsewhere(self) -> Self:
        """Return a context in which others take their time: the stack, the caller, Entra ID.

        What is left of the time to the first byte is the overhead. Contexts do not overlap.
        """
        return self

    def waited_for_token(self, seconds: float) -> None:
        """Note that the request had no token at hand; outside of `elsewhere`."""
        self._elsewhere += seconds
        self._requests.waited(seconds)

    def first_byte(self) -> None:
        """Note that the answer begins; only the first call counts."""
        if not self._unanswered:
            return
        self._unanswered = False
        took = self._requests.clock() - self._began
        self._requests.began(self._route, took, max(0.0, took - self._elsewhere))

    def finished(self, code: int) -> None:
        """Note that the request has ended; only the first call counts.

        Args:
            code: the status of the answer; 499 where the caller has left before it.
        """
        try:
            self._requests.in_flight.remove(self)
        except KeyError:
            return
        self._requests.ended(self._route, code)
