"""Prometheus metrics of one engine, in a registry of its own so that two engines fit in one process."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from diffusion_runtime.planning.documents import PhaseMeasurement

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)


class EngineMetrics:
    """What a dashboard needs: requests by outcome, the queue, seconds per stage, restarts, the plan being
    run.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "diffusion_engine_requests", "Requests answered, by outcome.", ["outcome"], registry=self.registry
        )
        self.pictures = Counter("diffusion_engine_pictures", "Pictures drawn.", registry=self.registry)
        self.queue_length = Gauge(
            "diffusion_engine_queue_length", "Accepted requests that wait.", registry=self.registry
        )
        self.queue_seconds = Gauge(
            "diffusion_engine_queue_seconds",
            "Seconds until all accepted requests are drawn, by what the last picture took.",
            registry=self.registry,
        )
        self.running = Gauge(
            "diffusion_engine_requests_running", "Requests being drawn.", registry=self.registry
        )
        self.request_seconds = Histogram(
            "diffusion_engine_request_seconds",
            "Seconds from acceptance to answer.",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "diffusion_engine_stage_seconds",
            "Seconds of one stage of one picture on rank 0.",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.rank_group_restarts = Counter(
            "diffusion_engine_rank_group_restarts",
            "Rank groups started again after one was lost.",
            registry=self.registry,
        )
        self.ready = Gauge("diffusion_engine_ready", "1 while requests are served.", registry=self.registry)
        self.plan_info = Gauge(
            "diffusion_engine_plan_info",
            "Always 1; the labels say what is executed.",
            ["plan_hash", "executing_hash", "mode", "model", "device", "ranks"],
            registry=self.registry,
        )

    def observe_stages(self, phases: Mapping[str, PhaseMeasurement]) -> None:
        """Record one picture's stages."""
        for stage, measured in phases.items():
            if measured.seconds is not None:
                self.stage_seconds.labels(stage).observe(measured.seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
