"""The story reads the quotas of its namespace, and a larger quota lets the waiting replicas run."""

from __future__ import annotations

from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import demo, world


async def test_replicas_beyond_the_quota_wait_until_it_grows() -> None:
    made = world(4)
    made.limit_gpus(2, 0)
    made.cluster.submit(demo(replicas=3))
    await made.settle()
    assert len(made.cluster.names(PODS)) == 2
    assert made.condition("Ready")["status"] == "True"
    waits = made.condition("Reconciling")
    assert (waits["status"], waits["reason"]) == ("True", "QuotaExceeded")
    assert "quota team: requests.nvidia.com/gpu 2, of which others use 0" in waits["message"]
    made.limit_gpus(2, 2)
    await made.settle()
    assert len(made.cluster.names(PODS)) == 2
    made.limit_gpus(3, 2)
    await made.settle()
    assert len(made.cluster.names(PODS)) == 3
    assert made.condition("Reconciling")["status"] == "False"
