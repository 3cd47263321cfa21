"""A model of a hub: looked at, planned, fetched, served; the token never reaches a pod that serves."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from diffusion_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS, JsonObject
from unit.reconcile.model_jobs import (
    COMMIT,
    JOB_LABEL,
    claim,
    end,
    failure,
    job,
    jobs,
    store,
    told_facts,
)
from unit.reconcile.worlds import World, demo, world

HUB: JsonObject = {
    "source": {"huggingFace": {"repo": "tiny/qwen", "revision": "main"}},
    "secretRef": {"name": "hub-token"},
}
CACHE = {"pvc": {"claimName": "cache"}}


def hub(name: str = "demo", model: JsonObject = HUB, **spec: Any) -> JsonObject:
    return demo(name, model=model, **spec)


def pod_of(found: World, name: str = "demo-h200") -> JsonObject:
    return dict(template_of(found, name)["spec"])


def template_of(found: World, name: str = "demo-h200") -> JsonObject:
    return dict(found.cluster.get_now(DEPLOYMENTS, name)["spec"]["template"])


async def inspected(**spec: Any) -> World:
    """A world in which the model has been looked at."""
    found = world(4)
    claim(found, "cache")
    found.cluster.submit(hub(**spec))
    await found.settle()
    end(found, "inspect", told_facts())
    await found.settle()
    return found


async def test_looked_at_before_anything_is_decided() -> None:
    found = world(4)
    found.cluster.submit(hub())
    await found.settle()
    spec = job(found, "inspect")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"] == [
        *("diffusion-runtime", "inspect", "--compact", "--model-path", "tiny/qwen", "--revision", "main")
    ]
    token = {"name": "hub-token", "key": "token"}
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}} in container["env"]
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert "nvidia.com/gpu" not in json.dumps(container["resources"])
    assert spec["automountServiceAccountToken"] is False
    assert found.cluster.names(DEPLOYMENTS) == []
    for kind in ("Ready", "ModelCached", "Planned"):
        assert (found.condition(kind)["status"], found.condition(kind)["reason"]) == ("False", "Inspecting")
    assert found.condition("Reconciling")["status"] == "True"
    assert found.condition("Stalled")["status"] == "False"


async def test_facts_are_kept_and_the_revision_is_pinned() -> None:
    found = await inspected()
    (name,) = [name for name in found.cluster.names(CONFIG_MAPS) if "-facts-" in name]
    kept = found.cluster.get_now(CONFIG_MAPS, name)
    assert kept["data"]["commit"] == COMMIT
    assert (kept["data"]["revision"], kept["immutable"]) == ("main", True)
    assert jobs(found, "inspect") == []
    plans = [n for n in found.cluster.names(CONFIG_MAPS) if "-facts-" not in n]
    plan = json.loads(found.cluster.get_now(CONFIG_MAPS, plans[0])["data"]["plan.json"])
    assert (plan["model"]["source"], plan["model"]["revision"]) == ("path", COMMIT)
    assert plan["model"]["path"].startswith("/models/tiny-qwen-")


async def test_without_a_cache_each_pod_fetches_and_serves_offline() -> None:
    found = await inspected()
    spec = pod_of(found)
    (fetch,) = spec["initContainers"]
    (engine,) = spec["containers"]
    assert fetch["command"][:2] == ["diffusion-runtime", "fetch"]
    assert fetch["command"][-2:] == ["--revision", COMMIT]
    assert any(variable["name"] == "HF_TOKEN" for variable in fetch["env"])
    assert {"name": "model", "mountPath": "/models"} in fetch["volumeMounts"]
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in engine["volumeMounts"]
    assert "hub-token" not in json.dumps(engine)
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in engine["env"]
    size = next(v for v in spec["volumes"] if v["name"] == "model")["emptyDir"]["sizeLimit"]
    assert fetch["resources"]["requests"]["ephemeral-storage"] == size
    assert int(size) > 2**30
    assert found.condition("Ready")["status"] == "True"
    assert found.condition("ModelCached")["status"] == "True"


async def test_with_a_cache_no_gpu_is_asked_for_before_the_files_are_there() -> None:
    found = await inspected(cache=CACHE)
    spec = job(found, "fetch")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "cache"}} in spec["volumes"]
    assert "nvidia.com/gpu" not in json.dumps(spec["containers"][0]["resources"])
    assert found.cluster.names(DEPLOYMENTS) == []
    status = found.status()
    assert status["plan"]["model"] == "tiny/qwen"
    assert "placements" not in status
    assert found.condition("Planned")["status"] == "True"
    assert found.condition("ModelCached")["reason"] == "FetchingModel"
    end(found, "fetch", json.dumps({"reason": "Fetched", "commit": COMMIT}))
    await found.settle()
    spec = pod_of(found)
    assert "initContainers" not in spec
    assert "hub-token" not in json.dumps(spec)
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in spec["containers"][0][
        "volumeMounts"
    ]
    assert found.condition("ModelCached") | {"lastTransitionTime": ""} == {
        "type": "ModelCached",
        "status": "True",
        "reason": "Ready",
        "message": "tiny/qwen at main is in claim cache",
        "observedGeneration": 1,
        "lastTransitionTime": "",
    }
    assert found.condition("Ready")["status"] == "True"
    assert len(jobs(found, "fetch")) == 1  # the record that it is there


@pytest.mark.parametrize(
    ("reason", "code", "stalled", "retry_s"),
    [
        ("RateLimited", 1, "False", 120),
        ("InsufficientStorage", 1, "False", 120),
        ("InvalidSpec", 2, "True", 900),
    ],
)
async def test_a_fetch_that_failed_is_told_and_tried_again(
    reason: str, code: int, stalled: str, retry_s: int
) -> None:
    found = await inspected(cache=CACHE)
    first = job(found, "fetch")["metadata"]["uid"]
    end(found, "fetch", failure(reason, "the hub said no"), code=code)
    await found.settle()
    for kind in ("Ready", "ModelCached"):
        assert (found.condition(kind)["status"], found.condition(kind)["reason"]) == ("False", reason)
    assert "the hub said no" in found.condition("ModelCached")["message"]
    assert found.condition("Stalled")["status"] == stalled
    assert job(found, "fetch")["metadata"]["uid"] == first
    outcome = await found.reconcile()
    assert outcome.recheck_after_s is not None
    assert outcome.recheck_after_s <= retry_s
    found.seconds += retry_s + 1
    await found.settle()
    assert job(found, "fetch")["metadata"]["uid"] != first


async def test_an_inspection_that_failed_is_told() -> None:
    found = world(4)
    found.cluster.submit(hub())
    await found.settle()
    end(found, "inspect", failure("InvalidSpec", "no model 'tiny/qwen'"), code=2)
    await found.settle()
    assert found.condition("Stalled")["status"] == "True"
    assert "no model 'tiny/qwen'" in found.condition("Ready")["message"]
    assert found.condition("Planned")["status"] == "False"


async def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    found = world(4)
    found.cluster.submit(hub())
    await found.settle()
    first = job(found, "inspect")["metadata"]["uid"]
    end(found, "inspect", "half an ans")
    await found.settle()
    assert job(found, "inspect")["metadata"]["uid"] != first


async def test_another_revision_is_fetched_while_the_old_one_serves() -> None:
    found = await inspected(cache=CACHE)
    end(found, "fetch", "{}")
    await found.settle()
    before = copy.deepcopy(template_of(found))
    other = {**HUB, "source": {"huggingFace": {"repo": "tiny/qwen", "revision": "v2"}}}
    found.cluster.submit(hub(model=other, cache=CACHE))
    await found.settle()
    assert template_of(found) == before
    assert found.status()["placements"][0]["replicas"] == 1
    assert "keeps serving" in found.condition("Ready")["message"]
    end(found, "inspect", told_facts("beef" + "0" * 36))
    await found.settle()
    assert template_of(found) == before
    end(found, "fetch", "{}")
    await found.settle()
    assert template_of(found) != before
    assert found.condition("Ready")["status"] == "True"
    assert len([name for name in found.cluster.names(CONFIG_MAPS) if "-facts-" in name]) == 1


async def test_a_changed_spec_ends_the_job_of_the_old_one() -> None:
    found = world(4)
    found.cluster.submit(hub())
    await found.settle()
    first = job(found, "inspect")["metadata"]["name"]
    found.cluster.submit(hub(model={**HUB, "variant": "fp16"}))
    await found.settle()
    (now,) = jobs(found, "inspect")
    assert now["metadata"]["name"] != first
    assert now["spec"]["template"]["spec"]["containers"][0]["command"][-2:] == ["--variant", "fp16"]
    found.cluster.submit(demo())
    await found.settle()
    assert found.cluster.names(JOBS) == []
    assert found.condition("ModelCached")["message"] == "the model is part of the engine image"


async def test_two_deployments_of_one_model_share_its_folder() -> None:
    found = world(4)
    claim(found, "cache")
    for name in ("one", "two"):
        found.cluster.submit(hub(name, cache=CACHE))
    await found.settle("one", "two")
    for one in jobs(found, "inspect"):
        end(found, "inspect", told_facts(), name=one["metadata"]["name"])
    await found.settle("one", "two")
    folders = {
        tuple(one["spec"]["template"]["spec"]["containers"][0]["command"][2:4])
        for one in jobs(found, "fetch")
    }
    assert len(jobs(found, "fetch")) == 2
    assert len(folders) == 1


async def test_an_operator_that_restarts_asks_nothing_twice() -> None:
    found = await inspected(cache=CACHE)
    end(found, "fetch", "{}")
    await found.settle()
    found.restart_operator()
    written = len(found.cluster.writes)
    await found.settle()
    assert found.writes_since(written) == []


async def test_suspended_a_known_model_is_shown_without_running_anything() -> None:
    found = world(4)
    known = {"source": {"huggingFace": {"repo": "Qwen/Qwen-Image"}}}
    spec = demo(model=known, suspend=True)
    del spec["spec"]["performance"]
    found.cluster.submit(spec)
    await found.settle()
    assert found.cluster.names(JOBS) == []
    assert found.status()["plan"]["model"] == "Qwen/Qwen-Image"
    assert found.condition("ModelCached")["reason"] == "Suspended"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such tag"}}}
                ]
            },
            "ErrImagePull: no such tag",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes"}]},
            "the scheduler found no node: 0/3 nodes",
        ),
    ],
)
async def test_a_job_that_does_not_start_says_why(status: JsonObject, words: str) -> None:
    found = world(4)
    found.cluster.submit(hub())
    await found.settle()
    live = job(found, "inspect")["metadata"]
    metadata = {"name": "x", "namespace": "team", "labels": {JOB_LABEL: live["name"]}}
    owner = [{"uid": live["uid"], "name": live["name"], "kind": "Job"}]
    store(found, PODS, {"metadata": metadata | {"ownerReferences": owner}, "spec": {}, "status": status})
    await found.reconcile()
    assert words in found.condition("ModelCached")["message"]


async def test_a_fetch_in_the_pod_that_fails_is_told() -> None:
    found = await inspected()
    found.cluster.engines_ready = False
    found.cluster.submit(hub(workload={"guidance": "off"}))
    await found.settle()
    ((_, pod),) = [
        (k, o) for k, o in found.cluster.objects.items() if k[0] == PODS.plural and "-h200-" in k[2]
    ]
    said = {"terminated": {"exitCode": 1, "message": failure("RateLimited", "the hub says 429")}}
    pod["status"]["initContainerStatuses"] = [{"name": "fetch", "state": said}]
    await found.reconcile()
    assert found.condition("Ready")["reason"] == "RateLimited"
    assert found.condition("ModelCached")["status"] == "False"
