"""What the Job controller and the pods of the two model Jobs do, for worlds in memory."""

from __future__ import annotations

import copy
import json
from typing import Any

from diffusion_operator.kube.resources import JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, JsonObject, Resource
from diffusion_runtime.commands.inspect import compact
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import ModelRef
from unit.reconcile.worlds import World

COMMIT = "c0ffee" + "0" * 34
JOB_LABEL = "batch.kubernetes.io/job-name"


def told_facts(commit: str | None = COMMIT) -> str:
    """What an inspection of a tiny hub model answers."""
    facts = facts_for("demo")
    model = ModelRef(name="tiny/qwen", family=facts.model.family, source="huggingFace", revision=commit)
    return compact(facts.model_copy(update={"model": model}))


def failure(reason: str, message: str) -> str:
    """The last words of an engine command that failed."""
    return json.dumps({"reason": reason, "phase": "fetch", "message": message})


def jobs(world: World, task: str) -> list[JsonObject]:
    """Live Jobs of one kind."""
    found = [obj for (plural, _, name), obj in world.cluster.objects.items() if plural == JOBS.plural]
    return [job for job in found if f"-{task}-" in job["metadata"]["name"]]


def job(world: World, task: str) -> JsonObject:
    """The one Job of this kind."""
    (found,) = jobs(world, task)
    return found


def end(world: World, task: str, message: str = "", *, code: int = 0, name: str | None = None) -> None:
    """The Job's pod ends with this termination message, and the Job controller says how it went."""
    found = next(one for one in jobs(world, task) if name in (None, one["metadata"]["name"]))
    job_name = found["metadata"]["name"]
    terminated = {"exitCode": code, "message": message}
    store(
        world,
        PODS,
        {
            "metadata": {
                "name": f"{job_name}-x",
                "namespace": "team",
                "labels": {JOB_LABEL: job_name},
                "ownerReferences": [{"uid": found["metadata"]["uid"], "name": job_name, "kind": "Job"}],
            },
            "spec": copy.deepcopy(found["spec"]["template"]["spec"]),
            "status": {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [{"name": task, "state": {"terminated": terminated}}],
            },
        },
    )
    stamp = world.stamp()
    kind = "Failed" if code else "Complete"
    found["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": stamp}]}


def store(world: World, resource: Resource, obj: JsonObject) -> None:
    """Somebody else makes an object."""
    world.cluster._store(resource, obj)


def claim(world: World, name: str, *modes: str, volume: str = "") -> None:
    """A PersistentVolumeClaim."""
    spec: dict[str, Any] = {"accessModes": list(modes or ("ReadWriteMany",)), "volumeName": volume}
    store(
        world,
        PERSISTENT_VOLUME_CLAIMS,
        {"metadata": {"name": name, "namespace": "team"}, "spec": spec, "status": {"phase": "Bound"}},
    )
