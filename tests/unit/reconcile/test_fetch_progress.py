"""How far a fetch is stands in the status, in steps, and only while its pod is at work and says so."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.kube.resources import PODS
from diffusion_operator.reconcile.models import LOOK_EVERY_S, progress_words
from unit.reconcile.model_jobs import JOB_LABEL, claim, end, job, store, told_facts
from unit.reconcile.worlds import World, demo, world

GIB = 2**30
IP = "10.0.9.9"
MODEL = {"source": {"huggingFace": {"repo": "tiny/qwen", "revision": "main"}}}


async def fetching() -> World:
    """A world in which the fetch has a pod that is at work."""
    found = world(4)
    claim(found, "cache")
    found.cluster.submit(demo(model=MODEL, cache={"pvc": {"claimName": "cache"}}))
    await found.settle()
    end(found, "inspect", told_facts())
    await found.settle()
    metadata = {
        "name": "fetch-x",
        "namespace": "team",
        "labels": {JOB_LABEL: job(found, "fetch")["metadata"]["name"]},
    }
    running = {"name": "fetch", "state": {"running": {}}}
    status = {"phase": "Running", "podIP": IP, "containerStatuses": [running]}
    store(found, PODS, {"metadata": metadata, "spec": {}, "status": status})
    return found


def message(found: World) -> str:
    return str(found.condition("ModelCached")["message"])


async def test_the_condition_says_how_far_it_is() -> None:
    found = await fetching()
    container = job(found, "fetch")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "DIFFUSION_PROGRESS_PORT", "value": "9000"} in container["env"]
    found.cluster.fetching[IP] = (6 * GIB, 16 * GIB)
    outcome = await found.reconcile()
    assert message(found).endswith("into claim cache: 36 % of 16.0GiB")
    assert outcome.recheck_after_s == LOOK_EVERY_S
    assert LOOK_EVERY_S >= 10


async def test_it_is_written_again_only_when_it_has_moved() -> None:
    found = await fetching()
    found.cluster.fetching[IP] = (6 * GIB, 16 * GIB)
    await found.reconcile()
    written = len(found.cluster.writes)
    found.cluster.fetching[IP] = (6 * GIB + GIB // 20, 16 * GIB)
    await found.reconcile()
    assert found.writes_since(written) == []
    found.cluster.fetching[IP] = (7 * GIB, 16 * GIB)
    await found.reconcile()
    assert found.writes_since(written) == [("status", "DiffusionDeployment", "demo")]
    assert "42 % of 16.0GiB" in message(found)


async def test_a_pod_that_does_not_answer_says_nothing() -> None:
    found = await fetching()
    await found.reconcile()
    assert message(found).endswith("into claim cache")


async def test_the_end_takes_its_place() -> None:
    found = await fetching()
    found.cluster.fetching[IP] = (6 * GIB, 16 * GIB)
    await found.reconcile()
    found.cluster.remove(PODS, "fetch-x")
    end(found, "fetch")
    await found.settle()
    assert found.condition("ModelCached")["status"] == "True"
    assert "%" not in message(found)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((0, 0), ""), ((5, 0), ""), ((0, GIB), "0 % of 1.0GiB"), ((2 * GIB, GIB), "100 % of 1.0GiB")],
)
def test_words(numbers: Any, words: str) -> None:
    assert progress_words(*numbers) == words
