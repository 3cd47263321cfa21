"""The control plane of the scale suite: what it spends on other things than deployments is taken from it.

One machine of two cores runs everything, so each second that goes into heartbeats of a thousand nodes, a
garbage collector or objects that nobody reads is missing to the plain client and to the operator alike. All
of it is named beside the figures (page.py). The rules by which objects are admitted, stored and watched stay.
"""

from __future__ import annotations

from typing import Any

import yaml

from cluster.outages import AWAY, CLIENTS, EVERYTHING, MANAGER, SCHEDULER, SERVER, away, in_node
from localcluster.gpunodes import start_kwok, stop_kwok
from localcluster.kindcluster import Cluster

GOGC = "400"
"""Percent by which the heap of a Go process grows before it is searched for garbage; 100 by default."""
GRACE = "--node-monitor-grace-period=2h"
NO_ENDPOINTS = ",-endpoints-controller,-endpointslice-mirroring-controller"
SCORED_PERCENT = 5
SCHEDULER_FILE = "/etc/kubernetes/scheduler-of-many.yaml"
LEASE_S = 3600


def lighten(cluster: Cluster) -> None:
    """Start the control plane again, and KWOK, with these settings.

    A thousand nodes renew their Leases a hundred times a second by default; on two cores some come too late,
    the pods of their nodes are marked as not Ready, and KWOK never marks them as Ready again.
    """
    with away(cluster, *EVERYTHING):
        for part in EVERYTHING:
            manifest = yaml.safe_load(in_node(cluster, f"cat {AWAY}/{part}.yaml"))
            _change(manifest["spec"], part)
            _write(cluster, f"{AWAY}/{part}.yaml", manifest)
        _write(cluster, SCHEDULER_FILE, _scheduler())
    # Neither serves anybody here, and both follow every Service.
    cluster.kubectl("-n", "kube-system", "delete", "daemonset/kube-proxy", "deployment/coredns")
    begun = "; ".join(f"until pgrep -f '^{part} ' >/dev/null; do sleep 0.2; done" for part in CLIENTS)
    in_node(cluster, begun)
    stop_kwok(cluster.folder)
    start_kwok(cluster.folder, lease_s=LEASE_S)


def _change(pod: dict[str, Any], part: str) -> None:
    (container,) = pod["containers"]
    container["env"] = [*container.get("env", ()), {"name": "GOGC", "value": GOGC}]
    command: list[str] = container["command"]
    if part == SERVER:
        container["command"] = [word for word in command if not word.startswith("--audit-")]
    if part == MANAGER:
        (place,) = (place for place, word in enumerate(command) if word.startswith("--controllers="))
        command[place] += NO_ENDPOINTS
        command.append(GRACE)
    if part == SCHEDULER:
        command.append(f"--config={SCHEDULER_FILE}")
        mount = {"name": "of-many", "mountPath": SCHEDULER_FILE, "readOnly": True}
        container["volumeMounts"].append(mount)
        pod["volumes"].append({"name": "of-many", "hostPath": {"path": SCHEDULER_FILE, "type": "File"}})


def _scheduler() -> dict[str, Any]:
    """With a file, the client limits of the command line no longer count."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/scheduler.conf", "qps": 1000, "burst": 2000},
        "percentageOfNodesToScore": SCORED_PERCENT,
    }


def _write(cluster: Cluster, path: str, document: dict[str, Any]) -> None:
    in_node(cluster, f"cat > {path} <<'END'\n{yaml.safe_dump(document)}\nEND")
