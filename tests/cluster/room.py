"""One namespace of a test, with the few things that tests do in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from cluster.watching import Object, State, await_state, says
from localcluster.kindcluster import Cluster
from localcluster.portforward import forwarded
from localcluster.shell import run

DEPLOYMENT_LABEL = "diffusion-operator.io/deployment"
READY_SECONDS = 300
"""Many start at the same time; only what never comes is to fail."""


def manifest(name: str, **spec: Any) -> Object:
    """A DiffusionDeployment of the built-in demo model on the CPU; keyword arguments are further fields of
    its spec.
    """
    return {
        "apiVersion": "diffusion-operator.io/v1alpha1",
        "kind": "DiffusionDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": {"builtIn": {"name": "demo"}}},
            "performance": {"device": "cpu"},
            **spec,
        },
    }


def condition(dd: Object, kind: str) -> Object:
    """The condition of this type, or an empty one; conditions of an older spec do not count."""
    if dd.get("status", {}).get("observedGeneration") != dd["metadata"]["generation"]:
        return {}
    entries: list[Object] = dd["status"].get("conditions", [])
    return next((entry for entry in entries if entry["type"] == kind), {})


def is_true(dd: Object, kind: str) -> bool:
    return condition(dd, kind).get("status") == "True"


@dataclass(frozen=True)
class Room:
    """A namespace and the cluster it is in."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin)

    def plugin(self, *words: str) -> str:
        """What `kubectl diffusion` prints about this namespace."""
        environment = {"KUBECTL": str(self.cluster.kubectl_program)}
        flags: list[str | Path] = ["-n", self.namespace, "--kubeconfig", self.cluster.folder.kubeconfig]
        program = [sys.executable, "-m", "diffusion_operator.cli.main"]
        return run([*program, *words, *flags], env=environment, timeout_seconds=120)

    def apply(self, *documents: Object, server_side: bool = False) -> str:
        flags = ["--server-side"] if server_side else []
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        return self.kubectl("apply", *flags, "-f", "-", stdin=listed)

    def get(self, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", "dd", name, "-o", "json"))
        return found

    def await_dd(
        self, name: str, holds: Callable[[Object], bool], what: str, deadline_seconds: float = READY_SECONDS
    ) -> Object:
        """Watch one DiffusionDeployment until ``holds(it)``."""

        def named(state: State) -> bool:
            return name in state and holds(state[name])

        return await_state(
            self.cluster, self.namespace, "dd", named, f"{name} {what}", deadline_seconds=deadline_seconds
        )[name]

    def await_ready(self, name: str, deadline_seconds: float = READY_SECONDS) -> Object:
        return self.await_dd(name, lambda dd: is_true(dd, "Ready"), "is Ready", deadline_seconds)

    def await_stalled(self, name: str) -> Object:
        return self.await_dd(name, lambda dd: is_true(dd, "Stalled"), "is Stalled", 60)

    def await_pods(self, name: str, holds: Callable[[State], bool], what: str) -> State:
        """Watch the engine pods of one DiffusionDeployment until ``holds(name -> pod)``."""
        selector = f"{DEPLOYMENT_LABEL}={name}"
        return await_state(
            self.cluster,
            self.namespace,
            "pods",
            holds,
            what,
            selector=selector,
            deadline_seconds=READY_SECONDS,
        )

    def pods(self, name: str) -> list[Object]:
        listed: list[Object] = json.loads(
            self.kubectl("get", "pods", "-l", f"{DEPLOYMENT_LABEL}={name}", "-o", "json")
        )["items"]
        return listed

    @contextmanager
    def client(self, name: str) -> Iterator[OpenAI]:
        """The ``openai`` client on the deployment's Service; it does not retry, so that tests see each
        answer.
        """
        with (
            forwarded(self.cluster, f"svc/{name}", 80, self.namespace) as url,
            OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120) as client,
        ):
            yield client


def gpus_of(pod: Object) -> int:
    """GPUs that a pod's engine requests."""
    engine = next(entry for entry in pod["spec"]["containers"] if entry["name"] == "engine")
    return int(engine["resources"]["requests"]["nvidia.com/gpu"])


def pod_is_ready(pod: Object) -> bool:
    return says(pod, "Ready")
