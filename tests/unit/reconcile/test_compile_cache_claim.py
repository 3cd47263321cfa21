"""A claim for compiled kernels has to be there before anything starts, for a built-in model too."""

from __future__ import annotations

from diffusion_operator.kube.resources import DEPLOYMENTS
from unit.reconcile.model_jobs import claim
from unit.reconcile.worlds import demo, world


async def test_it_waits_for_the_claim() -> None:
    made = world(2)
    made.cluster.submit(demo(cache={"compiled": {"claimName": "kernels"}}))
    await made.settle()
    ready = made.condition("Ready")
    assert (ready["reason"], ready["message"]) == (
        "ClaimNotFound",
        "namespace team has no PersistentVolumeClaim kernels",
    )
    assert made.cluster.names(DEPLOYMENTS) == []
    claim(made, "kernels")
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("ModelCached")["message"] == "the model is part of the engine image"
