"""The operator as its own process, with one stub: KWOK pods run nothing, so their reports are made here.

All else is what the image runs: `python -m full.scale.operator_process` takes the operator's own flags.
"""

from __future__ import annotations

from diffusion_operator import main as operator
from diffusion_operator.kube.reports import FetchProgress, ReportUnavailable
from diffusion_operator.kube.resources import PODS, Resource
from diffusion_operator.reconcile.mirror import Entry, Identity, Mirror
from diffusion_runtime.planning.documents import EngineReport

PLAN_HASH = "diffusion-operator.io/plan-hash"


class StubReports:
    """Says of every pod in the mirror that it executes the plan that its template names."""

    def __init__(self, mirror: Mirror) -> None:
        self._plans: dict[str, str] = {}
        mirror.on_change(self._changed)

    def _changed(
        self, resource: Resource, _identity: Identity, _before: Entry | None, after: Entry | None, _own: bool
    ) -> None:
        if resource is PODS and after is not None and after.raw is not None:
            ip = after.raw.get("status", {}).get("podIP")
            if ip:
                self._plans[ip] = after.raw["metadata"]["labels"].get(PLAN_HASH, "")

    async def read(self, pod_ip: str) -> EngineReport:
        plan_hash = self._plans.get(pod_ip)
        if plan_hash is None:
            raise ReportUnavailable(f"no pod has the address {pod_ip}")
        return EngineReport(
            plan_hash=plan_hash,
            executing_hash=plan_hash,
            state="ready",
            device="cpu",
            ranks=1,
            planned_peak_per_gpu_bytes=1,
        )

    async def progress(self, pod_ip: str) -> FetchProgress:
        raise ReportUnavailable(f"nothing is fetched at {pod_ip}")

    async def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """The operator's own entry point with the stub in place."""
    mirror = Mirror()
    setattr(operator, "Mirror", lambda: mirror)  # noqa: B010  # in this process alone
    setattr(operator, "HttpReportReader", lambda: StubReports(mirror))  # noqa: B010
    operator.main()


if __name__ == "__main__":
    main()
