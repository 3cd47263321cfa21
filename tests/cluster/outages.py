"""Takes parts of the cluster's control plane away and brings them back, from inside its node.

The parts are static pods: the kubelet ends one whose manifest goes away. A store that came back from a backup
leaves everybody who watches behind, so all who do not notice by themselves are started again, as the
documents of Kubernetes ask for. The operator is not among them: that it notices is what is tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.watching import Object, until
from localcluster.gpunodes import start_kwok, stop_kwok
from localcluster.kindcluster import Cluster, answers

SERVER, STORE = "kube-apiserver", "etcd"
MANAGER, SCHEDULER = CLIENTS = ("kube-controller-manager", "kube-scheduler")
EVERYTHING = (STORE, SERVER, *CLIENTS)
MANIFESTS, AWAY = "/etc/kubernetes/manifests", "/etc/kubernetes/away"
DATA, BACKUP = "/var/lib/etcd", "/var/lib/etcd-backup"
STOPPED_SECONDS = STARTED_SECONDS = 120


def in_node(cluster: Cluster, script: str, timeout_seconds: float = STOPPED_SECONDS) -> str:
    """Run a script of bash in the node."""
    node = cluster.folder.node
    return cluster.provider.call("exec", node, "bash", "-ec", script, timeout_seconds=timeout_seconds)


def take_away(cluster: Cluster, *parts: str) -> None:
    """Return once none of these runs any more."""
    moves = "; ".join(f"mv {MANIFESTS}/{part}.yaml {AWAY}/" for part in parts)
    gone = "; ".join(f"while pgrep -f '^{part} ' >/dev/null; do sleep 0.2; done" for part in parts)
    in_node(cluster, f"mkdir -p {AWAY}; {moves}; {gone}")


def bring_back(cluster: Cluster, *parts: str) -> None:
    """Return once pods can ask the API server again."""
    _start(cluster, *parts)
    _await_service(cluster)


def _start(cluster: Cluster, *parts: str) -> None:
    in_node(cluster, "; ".join(f"mv {AWAY}/{part}.yaml {MANIFESTS}/" for part in parts))
    await_server(cluster)


@contextmanager
def away(cluster: Cluster, *parts: str) -> Iterator[None]:
    """These parts are away; they are back, and pods can ask the API server, when the block has ended."""
    take_away(cluster, *parts)
    try:
        yield
    finally:
        bring_back(cluster, *parts)


def await_server(cluster: Cluster) -> None:
    """Return once the API server says that it is ready."""
    until(lambda: answers(cluster), "the API server is back", STARTED_SECONDS)


def _await_service(cluster: Cluster) -> None:
    """Return once it says so at the address that pods know it by, too.

    A server that goes takes itself out of its Service. kube-proxy, which asks again every half a minute at
    worst, refuses connections to that address until it has heard that the server is back.
    """
    service = cluster.kubectl(
        "-n", "default", "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"
    )
    ask = f"curl --silent --insecure --fail --max-time 2 https://{service}/readyz || true"
    until(lambda: in_node(cluster, ask) == "ok", "kube-proxy leads to the API server", STARTED_SECONDS)


def back_up(cluster: Cluster) -> None:
    """Copy the store as it is; nobody may write to it meanwhile."""
    in_node(cluster, f"rm -rf {BACKUP}; cp -a {DATA} {BACKUP}")


def restore(cluster: Cluster) -> None:
    """Put the copy in the store's place while nothing of the control plane runs, and start that again.

    kube-proxy starts anew, too, or pods would not reach the API server: it would wait for a version of the
    lost time to tell it that the server is back.
    """
    take_away(cluster, *EVERYTHING)
    in_node(cluster, f"rm -rf {DATA}/member; cp -a {BACKUP}/member {DATA}/; rm -rf {BACKUP}")
    _start(cluster, *EVERYTHING)
    in_node(cluster, "pkill -x kube-proxy")
    _await_service(cluster)


def restart_watchers(cluster: Cluster) -> None:
    """All but the operator that would go on waiting for versions of the lost time."""
    in_node(cluster, "systemctl restart kubelet")
    stop_kwok(cluster.folder)
    start_kwok(cluster.folder)
    for app in ("k8s-app=kube-proxy", "k8s-app=kube-dns"):
        cluster.kubectl("-n", "kube-system", "delete", "pod", "-l", app, "--wait=false")


def kill_engine(cluster: Cluster, pod: Object) -> None:
    """SIGKILL to the first process of the pod's engine container, through the node."""
    status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == "engine")
    container = status["containerID"].removeprefix("containerd://")
    in_node(cluster, f"ctr -n k8s.io task kill -s SIGKILL {container}")


def evict(cluster: Cluster, pod: Object) -> None:
    """As `kubectl drain` and autoscalers do: the API server asks the disruption budgets first."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
