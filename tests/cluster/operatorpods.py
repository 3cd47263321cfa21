"""The operator that Helm installed, seen from outside: what it says, counts, and how often it was started."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cluster.outages import in_node
from cluster.watching import Object, until
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE
from localcluster.shell import CommandError

SELECTOR = ("-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/component=operator")
CLUSTER_BINDING = ("clusterrolebinding", HELM_RELEASE)
OWN_BINDING = ("rolebinding", HELM_RELEASE, "-n", OPERATOR_NAMESPACE)
LEASE = ("-n", OPERATOR_NAMESPACE, "get", "lease", HELM_RELEASE, "-o", "json")
SERVER_S_OWN = ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation")


def pods(cluster: Cluster) -> list[Object]:
    listed: list[Object] = json.loads(cluster.kubectl("get", "pods", *SELECTOR, "-o", "json"))["items"]
    return listed


def starts(cluster: Cluster) -> int:
    """How often containers of the present pods were started again."""
    return sum(
        status["restartCount"]
        for pod in pods(cluster)
        for status in pod["status"].get("containerStatuses", ())
    )


def said(cluster: Cluster, since_s: float, *, before: bool = False) -> str:
    """What the replicas logged since then (a monotonic time), or their containers before the present."""
    text = ""
    for pod in pods(cluster):
        words = ["-n", OPERATOR_NAMESPACE, "logs", pod["metadata"]["name"], "--tail=-1"]
        words += ["--previous"] if before else [f"--since={int(time.monotonic() - since_s) + 1}s"]
        try:
            text += cluster.kubectl(*words)
        except CommandError:
            continue  # it has no container of that kind just now
    return text


def metric(cluster: Cluster, pattern: str) -> float:
    """The sum over all replicas of the samples whose line starts with this regular expression."""
    total = 0.0
    for pod in pods(cluster):
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        try:
            text = cluster.kubectl("get", "--raw", path)
        except CommandError:
            continue  # it is starting
        total += sum(map(float, re.findall(rf"^{pattern}\S* (\S+)$", text, re.MULTILINE)))
    return total


def await_leader(cluster: Cluster) -> float:
    """Seconds until somebody leads."""
    return until(lambda: metric(cluster, "diffusion_operator_leader") >= 1.0, "an operator that leads", 120)


def holder(lease: Object) -> str:
    """The pod that leads; the identity in the Lease is the pod's name and the process's own mark."""
    return str(lease["spec"].get("holderIdentity", "")).rpartition("_")[0]


def kill(cluster: Cluster, pod: str) -> None:
    """SIGKILL to the container's first process, through the node: nothing is released, nothing is said."""
    words = ("-n", OPERATOR_NAMESPACE, "get", "pod", pod, "-o", "json")
    (status,) = json.loads(cluster.kubectl(*words))["status"]["containerStatuses"]
    container = status["containerID"].removeprefix("containerd://")
    in_node(cluster, f"ctr -n k8s.io task kill -s SIGKILL {container}")


def remove(cluster: Cluster, pod: str) -> None:
    """Its object is gone at once, its container a moment later."""
    words = ("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
    cluster.kubectl("-n", OPERATOR_NAMESPACE, *words)


def without_its_leader(cluster: Cluster, end: Callable[[Cluster, str], None]) -> float:
    """End the pod that leads while the other one is Ready; seconds until the Lease was held again.

    By the Lease's own record: how long this machine takes to show it is no part of the promise.
    """
    wait = ("rollout", "status", f"deployment/{HELM_RELEASE}", "--timeout=120s")
    cluster.kubectl("-n", OPERATOR_NAMESPACE, *wait, timeout_seconds=150)
    before = json.loads(cluster.kubectl(*LEASE))
    lease = before
    end(cluster, holder(before))
    ended_at = datetime.now(UTC)

    def held_anew() -> bool:
        nonlocal lease
        lease = json.loads(cluster.kubectl(*LEASE))
        return holder(lease) != "" and lease["spec"]["holderIdentity"] != before["spec"]["holderIdentity"]

    until(held_anew, "another leader", 120)
    return (datetime.fromisoformat(lease["spec"]["acquireTime"]) - ended_at).total_seconds()


@contextmanager
def without(cluster: Cluster, *objects: tuple[str, ...]) -> Iterator[Callable[[], None]]:
    """These objects are deleted, each given as words of kubectl; yields what brings them back, once."""
    kept = [fresh(json.loads(cluster.kubectl("get", *words, "-o", "json"))) for words in objects]
    for words in objects:
        cluster.kubectl("delete", *words)
    away = True

    def bring_back() -> None:
        nonlocal away
        if away:
            away = False
            listed = {"apiVersion": "v1", "kind": "List", "items": kept}
            # In Helm's name, or its next upgrade would find fields that belong to somebody else.
            words = ("--server-side", "--field-manager=helm", "-f", "-")
            cluster.kubectl("apply", *words, stdin=json.dumps(listed))

    try:
        yield bring_back
    finally:
        bring_back()


def fresh(obj: Object) -> Object:
    """As it would be written anew."""
    obj.pop("status", None)
    obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in SERVER_S_OWN}
    return obj
