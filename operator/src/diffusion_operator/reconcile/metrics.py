"""What the operator counts about itself, in Prometheus' terms. Counting only; nobody reads them back."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

DURATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One registry of its own, so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "diffusion_operator_reconciles",
            "Reconciles by result: done, apiError, timeout or bug.",
            ["result"],
            registry=self.registry,
        )
        self.duration_seconds = Histogram(
            "diffusion_operator_reconcile_duration_seconds",
            "Seconds per reconcile.",
            registry=self.registry,
            buckets=DURATION_BUCKETS_S,
        )
        self.plans = Counter(
            "diffusion_operator_plans",
            "Decisions by outcome (planned, partial, refused, none) and the Ready condition's reason.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self.api_calls = Counter(
            "diffusion_operator_api_calls",
            "Requests to the API server; code 0 means no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "diffusion_operator_queue_depth", "Keys that are due and not running.", registry=self.registry
        )
        self._waiting = Gauge(
            "diffusion_operator_waiting", "DiffusionDeployments that wait for GPUs.", registry=self.registry
        )

    def watch_queue(self, depth: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read both gauges whenever metrics are asked for."""
        self._queue_depth.set_function(lambda: float(depth()))
        self._waiting.set_function(lambda: float(waiting()))

    def observe_call(self, verb: str, resource: str, code: int) -> None:
        """Count one request to the API server."""
        self.api_calls.labels(verb, resource, str(code)).inc()

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)
