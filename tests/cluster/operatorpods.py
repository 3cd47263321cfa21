"""The operator that Helm installed, seen from outside: what it says, counts, and how often it was started."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.watching import Object
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE
from localcluster.shell import CommandError

SELECTOR = ("-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/component=operator")
CLUSTER_BINDING = ("clusterrolebinding", HELM_RELEASE)
OWN_BINDING = ("rolebinding", HELM_RELEASE, "-n", OPERATOR_NAMESPACE)
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


def until(holds: Callable[[], bool], what: str, limit_s: float) -> float:
    """Seconds until it held; asked about once a second. AssertionError when it never did."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < limit_s, f"within {limit_s:.0f} s never: {what}"
        time.sleep(0.5)
    return time.monotonic() - began_s


def await_leader(cluster: Cluster) -> float:
    """Seconds until somebody leads."""
    return until(lambda: metric(cluster, "diffusion_operator_leader") >= 1.0, "an operator that leads", 120)


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
            cluster.kubectl("create", "-f", "-", stdin=json.dumps(listed))

    try:
        yield bring_back
    finally:
        bring_back()


def fresh(obj: Object) -> Object:
    """As it would be written anew."""
    obj.pop("status", None)
    obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in SERVER_S_OWN}
    return obj
