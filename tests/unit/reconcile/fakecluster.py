"""An API server in memory behind the operator's client protocol, with the controllers that a cluster has.

Server-side apply is done for real where it matters: a manager owns the fields it applied, fields it stops
applying vanish, maps merge, known lists merge by key; a resourceVersion moves only when something changed.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.api.names import LABEL_PLAN_HASH
from diffusion_operator.api.status import DiffusionDeploymentStatus
from diffusion_operator.kube.client import ListTaker
from diffusion_operator.kube.errors import AlreadyExists, Conflict, Invalid, NotFound
from diffusion_operator.kube.reports import FetchProgress, ReportUnavailable
from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    JsonObject,
    Resource,
    resource_of,
)
from diffusion_operator.reconcile.compare import ATOMIC_MAPS, MERGE_KEYS
from diffusion_runtime.planning.documents import EngineReport, Plan

GPU = "nvidia.com/gpu"
JsonObjects = list[JsonObject]
Key = tuple[str, str, str]  # plural, namespace, name


class Killed(BaseException):
    """The operator process died right after a write."""


@dataclass
class FakeCluster:
    """Implements KubeClient. `writes` lists (verb, kind, name) of everything a client wrote."""

    objects: dict[Key, JsonObject] = field(default_factory=dict)
    applied: dict[tuple[Key, str], JsonObject] = field(default_factory=dict)
    events: dict[str, JsonObject] = field(default_factory=dict)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    reads: int = 0
    seen: dict[Key, str] = field(default_factory=dict)
    versions: dict[Key, str] = field(default_factory=dict)
    kill_after: int | None = None
    version: int = 0
    uids: int = 0
    executing: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    engines_ready: bool = True
    unready: set[str] = field(default_factory=set)
    """Plan hashes and images with which no engine becomes ready."""
    idle: dict[str, float] = field(default_factory=dict)
    """Pods that load, and how many seconds ago they got on."""
    measured: dict[str, JsonObject] = field(default_factory=dict)
    """What the engines of these pods have measured: fields of their reports."""
    fetching: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes done and in all of the fetch at an address."""
    stamp: str | None = None
    """Time at which pods are created, as the API server writes it."""

    # --- what a user or the cluster does -------------------------------------------------------------

    def add_node(self, name: str, gpus: int, product: str = "NVIDIA-H200", memory_mib: int = 143771) -> None:
        """A Ready node with GPU feature discovery labels."""
        labels = {f"{GPU}.product": product, f"{GPU}.memory": str(memory_mib), f"{GPU}.count": str(gpus)}
        self._store(
            NODES,
            {
                "metadata": {"name": name, "labels": labels},
                "spec": {},
                "status": {
                    "allocatable": {GPU: str(gpus), "memory": "500Gi", "cpu": "64"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
        )

    def set_gpus(self, node: str, gpus: int) -> None:
        """The device plugin reports another number."""
        self.objects["nodes", "", node]["status"]["allocatable"][GPU] = str(gpus)

    def add_pod(self, pod: JsonObject) -> None:
        """A pod that some other controller made; it gets a uid of its own."""
        self._store(PODS, pod)

    def submit(self, dd: JsonObject) -> JsonObject:
        """kubectl apply of a DiffusionDeployment: the generation moves when the spec changes."""
        raw = copy.deepcopy(dd)
        raw |= {"apiVersion": DIFFUSION_DEPLOYMENTS.api_version, "kind": DIFFUSION_DEPLOYMENTS.kind}
        raw["spec"].setdefault("replicas", 1)
        key = self._key(DIFFUSION_DEPLOYMENTS, raw)
        live = self.objects.get(key)
        if live is not None:
            if live["spec"] != raw["spec"]:
                live["metadata"]["generation"] += 1
            live["spec"] = raw["spec"]
            return live
        raw["metadata"]["generation"] = 1
        return self._store(DIFFUSION_DEPLOYMENTS, raw)

    def remove(self, resource: Resource, name: str, namespace: str = "team") -> None:
        """kubectl delete, and the garbage collector after it."""
        self.version += 1
        del self.objects[resource.plural, namespace, name]
        self.collect_garbage()

    def collect_garbage(self) -> None:
        """Remove what has an owner reference to something that is gone, until nothing is left to remove."""
        while True:
            alive = {obj["metadata"]["uid"] for obj in self.objects.values()}
            doomed = [
                key
                for key, obj in self.objects.items()
                if (owners := obj["metadata"].get("ownerReferences"))
                and not any(owner["uid"] in alive for owner in owners)
            ]
            if not doomed:
                return
            for key in doomed:
                del self.objects[key]
                for entry in [entry for entry in self.applied if entry[0] == key]:
                    del self.applied[entry]

    def run_controllers(self) -> None:
        """Deployment controller, scheduler and kubelet until they rest (no surge: old pods end first)."""
        self.collect_garbage()
        for key, deployment in sorted(self.objects.items()):
            if key[0] == DEPLOYMENTS.plural:
                self._roll(deployment)
        self.collect_garbage()

    def get_now(self, resource: Resource, name: str, namespace: str = "team") -> JsonObject:
        """The live object, for assertions."""
        return self.objects[resource.plural, namespace, name]

    def names(self, resource: Resource) -> list[str]:
        """Names of all live objects of one kind."""
        return sorted(name for plural, _, name in self.objects if plural == resource.plural)

    def state(self) -> JsonObject:
        """All that a user can see of DiffusionDeployments and children, without times, uids and versions."""
        kept: JsonObject = {}
        for (plural, namespace, name), obj in sorted(self.objects.items()):
            if plural in (NODES.plural, PODS.plural, REPLICA_SETS.plural):
                continue
            shown = copy.deepcopy(obj)
            for noise in ("uid", "resourceVersion", "generation"):
                shown["metadata"].pop(noise, None)
            if plural == DEPLOYMENTS.plural:
                shown.get("status", {}).pop("observedGeneration", None)
            for condition in (shown.get("status") or {}).get("conditions", ()):
                condition.pop("lastTransitionTime", None)
            kept[f"{plural}/{namespace}/{name}"] = shown
        return kept

    # --- the client protocol --------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject:
        self.reads += 1
        try:
            return copy.deepcopy(self.objects[resource.plural, namespace or "", name])
        except KeyError:
            raise NotFound(f"{resource.plural} {name} not found", status=404) from None

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[JsonObject]:
        items, _ = await self.list_at(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return items

    async def list_at(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[JsonObjects, str]:
        self.reads += 1
        self._version_what_changed()
        wanted = dict(part.split("=") for part in label_selector.split(",")) if label_selector else {}
        found = [
            copy.deepcopy({k: v for k, v in obj.items() if k not in ("apiVersion", "kind")})
            for (plural, where, _), obj in sorted(self.objects.items())
            if plural == resource.plural
            and namespace in (None, where)
            and wanted.items() <= obj["metadata"].get("labels", {}).items()
        ]
        return found, str(self.version)

    async def list_into(
        self,
        taker: ListTaker,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> str:
        items, version = await self.list_at(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        taker.begin()
        taker.take(items)
        return version

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        resource = resource_of(manifest)
        key = self._key(resource, manifest)
        live = self.objects.get(key)
        if live is not None and not force and (key, "") not in self.applied:
            raise Conflict(f"{key}: another manager owns fields of it", status=409)
        if live is not None and _other_controller(live, manifest):
            raise Invalid(f"{key}: only one reference can have controller set to true", status=422)
        if live is None:
            live = self._store(resource, {"metadata": dict(manifest["metadata"])})
        if live.get("immutable") and manifest.get("data", live["data"]) != live["data"]:
            raise AssertionError(f"{key} is immutable: the API server would answer 422")
        before = copy.deepcopy(live)
        _drop_unapplied(live, self.applied.get((key, "")), manifest)
        _merge(live, manifest)
        self.applied[key, ""] = copy.deepcopy(manifest)
        if live.get("spec") != before.get("spec"):
            live["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        self._touch(live, before)
        self._wrote("apply", resource.kind, manifest["metadata"]["name"])
        return copy.deepcopy(live)

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        key = self._key(resource, obj)
        if key in self.objects:
            raise AlreadyExists(f"{key} exists", status=409)
        return await self.apply(obj)

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        key = self._key(DIFFUSION_DEPLOYMENTS, manifest)
        live = self.objects.get(key)
        if live is None:
            raise NotFound("gone", status=404)
        if manifest["metadata"].get("uid") not in (None, live["metadata"]["uid"]):
            raise Conflict("uid differs", status=409)
        # The CRD's schema: an unknown or malformed field would be pruned or refused.
        DiffusionDeploymentStatus.model_validate_json(json.dumps(manifest["status"]))
        before = copy.deepcopy(live)
        live["status"] = copy.deepcopy(manifest["status"])
        self._touch(live, before)
        self._wrote("status", "DiffusionDeployment", manifest["metadata"]["name"])
        return copy.deepcopy(live)

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str) -> None:
        live = self.objects.get((resource.plural, namespace, name))
        if live is None:
            return
        if live["metadata"]["uid"] != uid:
            raise Conflict("uid differs", status=409)
        self.remove(resource, name, namespace)
        self._wrote("delete", resource.kind, name)

    async def create_event(self, event: JsonObject) -> None:
        name = event["metadata"]["name"]
        if name in self.events:
            raise AlreadyExists(f"event {name} exists", status=409)
        self.events[name] = copy.deepcopy(event)
        self._wrote("event", event["reason"], event["regarding"]["name"])

    async def repeat_event(self, namespace: str, name: str, series: JsonObject) -> None:
        self.events[name]["series"] = series
        self._wrote("series", self.events[name]["reason"], name)

    # --- the report reader protocol -------------------------------------------------------------------

    async def progress(self, pod_ip: str) -> FetchProgress:
        if pod_ip not in self.fetching:
            raise ReportUnavailable(f"{pod_ip} does not answer")
        done, total = self.fetching[pod_ip]
        return FetchProgress(bytes_done=done, bytes_total=total)

    async def read(self, pod_ip: str) -> EngineReport:
        """An engine executes the plan that its pod mounts, unless `executing` says otherwise."""
        for (plural, _, name), pod in self.objects.items():
            if plural == PODS.plural and pod["status"].get("podIP") == pod_ip:
                plan = self._plan_of(pod)
                if name in self.silent or plan is None:
                    break
                report = EngineReport(
                    plan_hash=plan.hash,
                    executing_hash=self.executing.get(name, plan.hash),
                    state="ready",
                    device="cpu",
                    ranks=plan.gpus_per_replica,
                    planned_peak_per_gpu_bytes=plan.memory.peak_per_gpu_bytes,
                    load_idle_seconds=self.idle.get(name),
                )
                return report.model_copy(update=self.measured.get(name, {}))
        raise ReportUnavailable(f"http://{pod_ip}:9000/v1/report: no answer")

    # --- inside ---------------------------------------------------------------------------------------

    def _plan_of(self, pod: JsonObject) -> Plan | None:
        volumes = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume]
        config_map = self.objects.get((CONFIG_MAPS.plural, pod["metadata"]["namespace"], volumes[0]))
        return Plan.model_validate_json(config_map["data"]["plan.json"]) if config_map else None

    def _roll(self, deployment: JsonObject) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        template = spec["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]
        owner = [{"kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"], "controller": True}]
        set_name = f"{metadata['name']}-{digest}"
        if (REPLICA_SETS.plural, metadata["namespace"], set_name) not in self.objects:
            labels = dict(template["metadata"]["labels"])
            meta = {
                "name": set_name,
                "namespace": metadata["namespace"],
                "labels": labels,
                "ownerReferences": owner,
            }
            self._store(REPLICA_SETS, {"metadata": meta, "spec": {"template": copy.deepcopy(template)}})
        mine = {
            key: pod
            for key, pod in self.objects.items()
            if key[0] == PODS.plural and pod["metadata"]["ownerReferences"][0]["uid"] == metadata["uid"]
        }
        keep = [f"{set_name}-{number}" for number in range(spec["replicas"])]
        for key in mine:
            if key[2] not in keep:
                del self.objects[key]
        for name in keep:
            key = (PODS.plural, metadata["namespace"], name)
            if key in self.objects and self.objects[key]["status"]["phase"] == "Pending":
                del self.objects[key]  # the scheduler tries again
            if key not in self.objects:
                self._start(name, metadata["namespace"], template, owner)
        pods = [self.objects[PODS.plural, metadata["namespace"], name] for name in keep]
        ready = sum(1 for pod in pods if pod["status"]["phase"] == "Running" and self._becomes_ready(pod))
        status = {"replicas": len(pods), "updatedReplicas": len(pods), "readyReplicas": ready}
        deployment["status"] = status | {
            "availableReplicas": ready,
            "observedGeneration": metadata["generation"],
            "conditions": [{"type": "Available", "status": "True" if ready == spec["replicas"] else "False"}],
        }

    def _start(self, name: str, namespace: str, template: JsonObject, owner: list[JsonObject]) -> None:
        engine = template["spec"]["containers"][0]
        needed = int(engine["resources"]["limits"][GPU])
        selector = template["spec"].get("nodeSelector", {})
        node = next((n for n in self._nodes(selector) if self._free(n) >= needed), None)
        self.uids += 1
        starts = node is not None and self._becomes_ready(template)
        conditions = [{"type": "Ready", "status": "True" if starts else "False"}]
        status: JsonObject = {"phase": "Running" if node else "Pending", "conditions": conditions}
        if node:
            status["podIP"] = f"10.0.{self.uids // 250}.{self.uids % 250 + 1}"
        spec = copy.deepcopy(template["spec"]) | ({"nodeName": node} if node else {})
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": owner,
        }
        if self.stamp is not None:
            metadata["creationTimestamp"] = self.stamp
        self._store(PODS, {"metadata": metadata, "spec": spec, "status": status})

    def _becomes_ready(self, pod: JsonObject) -> bool:
        """Whether the engine of a pod or template comes up."""
        facts = {pod["metadata"]["labels"][LABEL_PLAN_HASH], pod["spec"]["containers"][0]["image"]}
        return self.engines_ready and not facts & self.unready

    def _nodes(self, selector: dict[str, str]) -> list[str]:
        return [
            name
            for (plural, _, name), node in sorted(self.objects.items())
            if plural == NODES.plural
            and selector.items() <= node["metadata"]["labels"].items()
            and not node["spec"].get("unschedulable")
        ]

    def _free(self, node: str) -> int:
        used = sum(
            int(pod["spec"]["containers"][0]["resources"]["limits"][GPU])
            for (plural, _, _), pod in self.objects.items()
            if plural == PODS.plural and pod["spec"].get("nodeName") == node
        )
        return int(self.objects["nodes", "", node]["status"]["allocatable"][GPU]) - used

    def _key(self, resource: Resource, obj: JsonObject) -> Key:
        return resource.plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

    def _store(self, resource: Resource, obj: JsonObject) -> JsonObject:
        self.uids += 1
        self.version += 1
        obj["metadata"] |= {"uid": f"uid-{self.uids}", "resourceVersion": str(self.version)}
        self.objects[self._key(resource, obj)] = obj
        self._version_what_changed()
        return obj

    def _touch(self, live: JsonObject, before: JsonObject) -> None:
        if live != before:
            self.version += 1
            live["metadata"]["resourceVersion"] = str(self.version)

    def _version_what_changed(self) -> None:
        """Tests and the controllers above edit objects in place; a server would have moved the version."""
        for key, obj in self.objects.items():
            plain = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}
            text = json.dumps(plain, sort_keys=True)
            if (
                self.seen.get(key, text) != text
                and self.versions.get(key) == obj["metadata"]["resourceVersion"]
            ):
                self.version += 1
                obj["metadata"]["resourceVersion"] = str(self.version)
            self.seen[key], self.versions[key] = text, obj["metadata"]["resourceVersion"]

    def _wrote(self, verb: str, kind: str, name: str) -> None:
        self._version_what_changed()
        self.writes.append((verb, kind, name))
        if self.kill_after is not None and len(self.writes) >= self.kill_after:
            raise Killed


def _other_controller(live: JsonObject, manifest: JsonObject) -> bool:
    wanted = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", ())}
    owners = live["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner["uid"] not in wanted for owner in owners)


def _merge(live: Any, wanted: JsonObject) -> None:
    for key, value in wanted.items():
        if key not in ATOMIC_MAPS and isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        elif isinstance(value, list) and key in MERGE_KEYS and isinstance(live.get(key), list):
            for entry in value:
                found = next((e for e in live[key] if _same_entry(e, entry, key)), None)
                if found is None:
                    live[key].append(copy.deepcopy(entry))
                else:
                    _merge(found, entry)
        else:
            live[key] = copy.deepcopy(value)


def _drop_unapplied(live: Any, before: JsonObject | None, wanted: JsonObject) -> None:
    for key, old in (before or {}).items():
        if key not in wanted:
            live.pop(key, None)
        elif isinstance(old, dict) and isinstance(wanted[key], dict) and isinstance(live.get(key), dict):
            _drop_unapplied(live[key], old, wanted[key])
        elif isinstance(old, list) and key in MERGE_KEYS and isinstance(live.get(key), list):
            gone = [e for e in old if not any(_same_entry(e, w, key) for w in wanted[key])]
            live[key] = [e for e in live[key] if not any(_same_entry(e, g, key) for g in gone)]


def _same_entry(one: Any, other: Any, field_name: str) -> bool:
    return all(one.get(key) == other.get(key) for key in MERGE_KEYS[field_name])
