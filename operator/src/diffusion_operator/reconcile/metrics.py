"""What the operator counts about itself and its deployments, in Prometheus' terms. Nobody reads them back.

The chart's alert rules and dashboard use these names; a test compares both. Gauges of a deployment say
what its last reconcile saw, and vanish with it.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from diffusion_operator.inventory.totals import GpuTotals
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.reconcile.sighting import Sighting

RECONCILE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
API_CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OF_DEPLOYMENT = ("namespace", "name")


class Metrics:
    """One registry of its own, so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._totals: Callable[[], tuple[GpuTotals, ...]] = tuple
        self.reconciles = self._counter(
            "reconciles", "Reconciles by result: done, apiError, timeout or bug.", "result"
        )
        self.duration_seconds = self._histogram(
            "reconcile_duration_seconds", "Seconds per reconcile.", RECONCILE_BUCKETS_S
        )
        self.plans = self._counter(
            "plans",
            "Decisions by outcome (planned, partial, refused, none) and the Ready condition's reason.",
            "outcome",
            "reason",
        )
        self.api_calls = self._counter(
            "api_calls", "Requests to the API server; code 0 means no answer.", "verb", "resource", "code"
        )
        self.api_call_seconds = self._histogram(
            "api_call_duration_seconds", "Seconds per request to the API server.", API_CALL_BUCKETS_S, "verb"
        )
        self.events_dropped = self._counter(
            "events_dropped",
            "Events that were not posted: lineFull, noAnswer, refused or stopped.",
            "reason",
        )
        self._leader = self._gauge("leader", "1 while this process is the one that works.")
        self._blocked = self._gauge(
            "blocked",
            "1 while the API server refuses what the operator needs: a right or a definition; see its log.",
        )
        self._queue_depth = self._gauge("queue_depth", "Keys that are due and not running.")
        self._queue_oldest = self._gauge(
            "queue_oldest_seconds", "How long the key that is due longest has waited; 0 when none is."
        )
        self._waiting = self._gauge("waiting", "DiffusionDeployments that wait for GPUs.")
        of_product = ("product", "resource")
        self._allocatable = self._gauge("gpus_allocatable", "GPUs that nodes offer.", *of_product)
        self._promised = self._gauge(
            "gpus_promised", "GPUs that engine pods hold or have reserved.", *of_product
        )
        self._free = self._gauge("gpus_free", "GPUs that nobody holds.", *of_product)
        self._condition = self._gauge(
            "deployment_condition",
            "1 while a condition of a DiffusionDeployment is True.",
            *OF_DEPLOYMENT,
            "type",
        )
        self._predicted = self._gauge(
            "deployment_predicted_peak_bytes", "Planned peak memory of one GPU.", *OF_DEPLOYMENT
        )
        self._measured = self._gauge(
            "deployment_measured_peak_bytes",
            "Highest peak memory of one GPU that engines report.",
            *OF_DEPLOYMENT,
        )

    def watch_queue(
        self, depth: Callable[[], int], oldest_s: Callable[[], float], waiting: Callable[[], int]
    ) -> None:
        """Read these gauges whenever metrics are asked for."""
        self._queue_depth.set_function(lambda: float(depth()))
        self._queue_oldest.set_function(oldest_s)
        self._waiting.set_function(lambda: float(waiting()))

    def watch_obstacles(self, blocked: Callable[[], bool]) -> None:
        """Read this gauge whenever metrics are asked for."""
        self._blocked.set_function(lambda: float(blocked()))

    def set_leader(self, leads: bool) -> None:
        """Whether this process works or stands by."""
        self._leader.set(1.0 if leads else 0.0)

    def observe_call(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count one request to the API server."""
        self.api_calls.labels(verb, resource, str(code)).inc()
        self.api_call_seconds.labels(verb).observe(seconds)

    def event_dropped(self, reason: str) -> None:
        """An Event will never be posted."""
        self.events_dropped.labels(reason).inc()

    def observe_deployment(self, key: DeploymentKey, seen: Sighting) -> None:
        """What a reconcile saw of one deployment; None removes a value that is not known any more."""
        for kind, true in seen.conditions.items():
            self._condition.labels(key.namespace, key.name, kind).set(1.0 if true else 0.0)
        for gauge, peak_bytes in (
            (self._predicted, seen.predicted_peak_bytes),
            (self._measured, seen.measured_peak_bytes),
        ):
            if peak_bytes is None:
                gauge.remove(key.namespace, key.name)
            else:
                gauge.labels(key.namespace, key.name).set(peak_bytes)

    def forget_deployment(self, key: DeploymentKey) -> None:
        """The deployment is gone, and its series with it."""
        for gauge in (self._condition, self._predicted, self._measured):
            gauge.remove_by_labels({"namespace": key.namespace, "name": key.name})

    def watch_capacity(self, totals: Callable[[], tuple[GpuTotals, ...]]) -> None:
        """Count the GPUs of the cluster whenever metrics are asked for: no decision waits for it."""
        self._totals = totals

    def _observe_capacity(self) -> None:
        for gauge in (self._allocatable, self._promised, self._free):
            gauge.clear()
        for total in self._totals():
            labels = (total.product, total.resource)
            self._allocatable.labels(*labels).set(total.allocatable)
            self._promised.labels(*labels).set(total.promised)
            self._free.labels(*labels).set(total.free)

    def text(self) -> bytes:
        """All metrics in the text format."""
        self._observe_capacity()
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"diffusion_operator_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"diffusion_operator_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets_s: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(
            f"diffusion_operator_{name}", text, labels, registry=self.registry, buckets=buckets_s
        )
