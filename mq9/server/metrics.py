"""Metrics of a broker and its server, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mq9.broker.observer import OK
from mq9.dialects import OLDER
from mq9.errors import Mq9Error
from mq9.protocol.verbs import VERBS
from mq9.server import state_metrics
from mq9.version import VERSION

if TYPE_CHECKING:
    from mq9.models import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

UNKNOWN = "unknown"
CLOSE_REASONS = (
    "client",
    "auth",
    "limit",
    "max_payload",
    "protocol",
    "revoked",
    "shutdown",
    "slow_consumer",
    "stale",
    "tls",
    UNKNOWN,
)
# Seconds. In memory most requests take well under a millisecond; a waiting disk takes seconds.
LATENCY_BUCKETS = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


@dataclass(frozen=True, slots=True)
class StorageSnapshot:
    """The state of a broker's storage."""

    is_up: bool  # whether it works; a slow one does
    totals: Totals | None = None  # at the last count
    age_s: float = 0.0  # since then


class Watched(NamedTuple):
    """A gauge whose value a function returns."""

    name: str
    text: str
    value: Callable[[], float]
    is_shared: bool = False  # whether each gateway of a cluster reports the same


class Metrics:
    """The metrics of one broker and its server, whose observer it is.

    They have a registry of their own, so that several brokers in one process do not add up. Labels
    take known values only. Other values count as ``unknown``, so that no client can add series.
    """

    def __init__(self) -> None:
        self.state = ""  # the id of the state that the server describes
        registry = CollectorRegistry()
        self._registry = registry
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._operations = counter(
            "mq9_operations", "Requests answered, by verb and outcome.", ["verb", "code"]
        )
        self._verbs = frozenset(OLDER) | frozenset(VERBS) | {UNKNOWN}
        self._codes = frozenset(_codes(Mq9Error)) | {OK, UNKNOWN}
        self._durations = _Durations(sorted(self._verbs))
        registry.register(self._durations)
        self._redeliveries = counter("mq9_redeliveries", "Messages delivered to a group again.")
        self._dead_letters = counter(
            "mq9_dead_letters", "Messages moved to another mailbox, other than back from there."
        )
        self._connections = gauge("mq9_connections", "Clients connected now.")
        self._opened = counter(
            "mq9_connections_opened", "Clients that connected, refused ones included."
        )
        self._closed = counter(
            "mq9_connections_closed",
            "Clients that left, were refused or were cut off, by reason.",
            ["reason"],
        )
        self._unheard = counter(
            "mq9_publishes_unheard",
            "Publishes, other than requests of mq9, that nobody was subscribed to.",
        )
        Info("mq9_build", "What runs here.", registry=registry).info({"version": VERSION})
        ProcessCollector(registry=registry)
        self._series: dict[tuple[str, str], Counter] = {}
        # A series that exists from the start shows its first increase.
        for verb in sorted(self._verbs):
            self._operations.labels(verb, OK)
        for reason in CLOSE_REASONS:
            self._closed.labels(reason)

    def watch_clock(self, offset_s: Callable[[], float]) -> None:
        """Expose by how many seconds the broker's time is ahead of the machine's."""
        Gauge(
            "mq9_clock_offset_seconds",
            "By how much the broker's time is ahead of the machine's; below 0 where it is held.",
            registry=self._registry,
        ).set_function(offset_s)

    def watch(self, gauges: Iterable[Watched]) -> None:
        """Expose gauges whose values functions return at each scrape."""
        for one in gauges:
            names = [state_metrics.STATE] if one.is_shared else []
            gauge = Gauge(one.name, one.text, names, registry=self._registry)
            (gauge.labels(self.state) if one.is_shared else gauge).set_function(one.value)

    def watch_appends(self, gateway: str, file: str) -> Callable[[float], None]:
        """Expose a gateway and its appends; return a function that is called with their seconds."""
        names = Info("mq9_gateway", "The gateway, and its file.", registry=self._registry)
        names.info({"name": gateway, "file": file})
        appends = Histogram(
            "mq9_log_append_seconds",
            "Time until the log had a record, with all tries.",
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        return appends.observe

    def answered(self, verb: str, code: str, seconds: float, count: int = 1) -> None:
        """Count requests that were answered together; the code is ``ok`` or that of an error."""
        verb = verb if verb in self._verbs else UNKNOWN
        code = code if code in self._codes else UNKNOWN
        series = self._series.get((verb, code))
        if series is None:  # to look one up by its labels takes as long as all the rest
            series = self._series[verb, code] = self._operations.labels(verb, code)
        series.inc(count)
        self._durations.observe(verb, seconds, count)

    def redelivered(self, count: int) -> None:
        """Count messages delivered again."""
        self._redeliveries.inc(count)

    def dead_lettered(self) -> None:
        """Count a message that was moved to another mailbox."""
        self._dead_letters.inc()

    def publish_unheard(self) -> None:
        """Count a publish without a subscriber."""
        self._unheard.inc()

    def connection_opened(self) -> None:
        """Count a client that connected."""
        self._connections.inc()
        self._opened.inc()

    def connection_closed(self, reason: str) -> None:
        """Count a client that has disconnected, for one of ``CLOSE_REASONS``."""
        self._connections.dec()
        self._closed.labels(reason if reason in CLOSE_REASONS else UNKNOWN).inc()

    def render(self, snapshot: StorageSnapshot) -> bytes:
        """Return all metrics as ``CONTENT_TYPE``; without totals, their gauges are left out."""
        return generate_latest(_Everything(self._registry, snapshot, self.state))


class _Durations(Collector):
    """A histogram for each verb, in which several durations are counted at once.

    One of ``prometheus_client`` takes one at a time.
    """

    def __init__(self, verbs: Iterable[str]) -> None:
        self._counts = {verb: [0] * (len(LATENCY_BUCKETS) + 1) for verb in verbs}
        self._sums = dict.fromkeys(self._counts, 0.0)

    def observe(self, verb: str, seconds: float, count: int) -> None:
        """Count requests of a duration."""
        self._counts[verb][bisect_left(LATENCY_BUCKETS, seconds)] += count
        self._sums[verb] += seconds * count

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        histogram = HistogramMetricFamily(
            "mq9_operation_duration_seconds",
            "Time to answer a request, without what a FETCH waited for mail.",
            labels=["verb"],
        )
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        for verb, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            histogram.add_metric([verb], buckets, self._sums[verb])
        yield histogram


class _Everything(Collector):
    """The counters, and the totals of the broker at one instant."""

    def __init__(self, counters: CollectorRegistry, snapshot: StorageSnapshot, state: str) -> None:
        self._counters = counters
        self._snapshot = snapshot
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for metric in self._counters.collect():
            # The creation times would double the number of series.
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric
        yield GaugeMetricFamily(
            "mq9_storage_up", "Whether the storage works.", value=self._snapshot.is_up
        )
        if self._snapshot.totals is not None:
            yield GaugeMetricFamily(
                "mq9_totals_age_seconds",
                "Age of the counts that follow.",
                value=self._snapshot.age_s,
            )
            yield from state_metrics.families(self._snapshot.totals, self._state)


def _codes(kind: type[Mq9Error]) -> Iterator[str]:
    yield kind.code
    for child in kind.__subclasses__():
        yield from _codes(child)
