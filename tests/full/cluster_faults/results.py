"""docs/results/cluster-faults: what the suite found, case by case, kept as it goes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from builders.kept_results import kept
from localcluster.cache import digest
from localcluster.settings import KUBERNETES_VERSION, REPOSITORY

RESULT = REPOSITORY / "docs" / "results" / "cluster-faults.json"
TABLE = RESULT.with_suffix(".md")
COVERED = (
    "operator/src/diffusion_operator",
    "charts/diffusion-operator",
    "tests/full/cluster_faults",
    "tests/cluster/operatorpods.py",
    "tests/cluster/outages.py",
    "tests/cluster/steady.py",
)


@dataclass(frozen=True)
class Row:
    """`done` says what was done, `end` what was asserted."""

    done: str
    end: str


STRUCK = Row(
    "",
    "the last wishes are followed ≤ 60 s after; no pod that ran was replaced or restarted, its Deployment "
    "is as before",
)
ROWS: dict[str, Row] = {
    **{
        f"F6: {percent} % of requests": replace(
            STRUCK,
            done=f"a proxy between operator and API server answers {percent} % of all requests with 409, "
            "429, 500, 503 or 2 s late, for 60 s; deployments made, changed and deleted meanwhile; pods are "
            "KWOK's",
        )
        for percent in (10, 50, 100)
    },
    "F8: API server away": Row(
        "API server, controllers and scheduler away for five minutes; two clients draw meanwhile",
        "no request failed, the engine's pod is the same; a new deployment is planned ≤ 30 s after pods can "
        "ask the API server again",
    ),
    "F8: etcd restarted": Row(
        "etcd away for 20 s under a running API server; two clients draw meanwhile",
        "no request failed, the engine's pod is the same; a new deployment is planned ≤ 30 s after",
    ),
    "F8: etcd restored": Row(
        "etcd put back to a backup from before a deployment, a change and 300 further writes",
        "the operator says that the store went back and lists anew; a new deployment is planned ≤ 30 s after "
        "and Ready; what the backup did not know is gone",
    ),
    "F9: cluster role gone": Row(
        "the operator's ClusterRoleBinding deleted, a deployment made, the binding back after 60 s",
        "the refusal is logged and counted ≤ 30 s, no restart; planned ≤ 30 s after",
    ),
    "F9: all rights gone": Row(
        "both bindings deleted for 60 s, the Lease's too; a deployment made",
        "the missing rights are logged and `diffusion_operator_blocked` is 1 ≤ 30 s; each replica starts "
        "again at most once; planned ≤ 30 s after",
    ),
    "F9: one right gone": Row(
        "the rule for Deployments taken out of the ClusterRole, a deployment made, the rule back",
        "the deployment's condition names the permission ≤ 30 s, no restart; Ready after",
    ),
    "F9: definition gone": Row(
        "the CRD of DiffusionDeployments deleted (and every object with it), back after 60 s, the object too",
        "logged ≤ 30 s and `diffusion_operator_blocked` is 1, no restart, no traceback; planned ≤ 30 s after "
        "the object is back, and Ready",
    ),
    "F12: killed": Row("the engine's first process killed (SIGKILL)", ""),
    "F12: evicted": Row("the pod evicted by the eviction API", ""),
    "F12: drained": Row("its node drained, then uncordoned", ""),
    "F12: node NotReady": Row("the node's kubelet stopped until the node is NotReady, then started", ""),
    "F12: out of memory": Row(
        "the container taken to its memory limit: the kernel kills its first process", ""
    ),
    "F12: node lost": Row(
        "a KWOK node's kubelet gone for good, the node marked out of service; its pod is of KWOK, too",
        "a replacement runs on another node; the promise counts it once",
    ),
    "F12: CUDA out of memory": Row(
        "a (fake) rank runs out of GPU memory with four requests accepted, with a fallback and without",
        "every request gets a picture or 503 with Retry-After",
    ),
    "roll-out: surge": Row("the plan changed while a GPU is free for a second pod", ""),
    "roll-out: full node, two replicas": Row(
        "the plan of two replicas changed while no GPU is free: one after the other is replaced", ""
    ),
    "roll-out: full node, one replica": Row(
        "the plan of one replica changed while no GPU is free: it is replaced in its place", ""
    ),
    "roll-out: spare GPU taken, one replica": Row(
        "the plan of one replica changed while a GPU is free, which is gone before the new pod has a node",
        "",
    ),
    "roll-out: taken back": Row("the plan changed to one that cannot start", ""),
    "roll-out: scale-down": Row("two replicas scaled to one", ""),
    "F18: upgrade and back": Row(
        "helm upgrade to a chart with the same operator image under another tag, other settings and a CRD "
        "with one more field; helm rollback; 200 deployments with pods on KWOK nodes",
        "no pod replaced or restarted, no Deployment rolled, every field of every spec as before",
    ),
}
ANSWERED = (
    "a replacement is Ready; three clients drew meanwhile, and each request got a picture, 429, 503, a "
    "refused or a broken connection, none waited longer than its deadline of 60 s"
)
GRACEFUL = "; no connection that was accepted broke"
CHANGED = (
    "the new state is Ready; two clients drew meanwhile, and each request got a picture, 429 or 503 with "
    "Retry-After"
)
IN_PLACE = ", or was refused a connection while none served"


def end_of(name: str) -> str:
    """What was asserted of a row."""
    if name.startswith("roll-out: "):
        return CHANGED + (IN_PLACE if name.endswith("one replica") else "")
    graceful = GRACEFUL if name in ("F12: evicted", "F12: drained") else ""
    return ROWS[name].end or ANSWERED + graceful


def input_hash() -> str:
    """Over the operator, the chart and the suite."""
    return digest([REPOSITORY / path for path in COVERED])


def read_result() -> dict[str, Any]:
    """What earlier runs of the same sources have found."""
    versions = {"kubernetes": KUBERNETES_VERSION}
    fresh: dict[str, Any] = {
        "suite": "cluster-faults",
        "inputHash": input_hash(),
        "versions": versions,
        "faults": {},
    }
    return kept(RESULT, fresh)


def record(name: str, seconds: float, **figures: Any) -> None:
    """Keep what one case found; `seconds` are those from the end of the fault until all was well."""
    assert name in ROWS
    result = read_result()
    result["faults"][name] = {"seconds": round(seconds, 1), **figures}
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """One line per fault."""
    lines = [
        "# Faults on a real cluster and how they end",
        "",
        "Written by `make test-full SUITE=cluster_faults`; all figures are in `cluster-faults.json`. A kind "
        f"cluster of one node, Kubernetes {KUBERNETES_VERSION}, the chart with two replicas of the operator, "
        "engines of the demo model on the CPU, drawn from inside the node through their Service. Seconds are "
        "from the end of the fault until all was well again. A row that says *not run* has not run with "
        "these sources.",
        "",
        "| fault | what was done | end | s | requests |",
        "|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        found = result["faults"].get(name, {})
        answers = found.get("answers") or {}
        said = ", ".join(f"{count} × {kind}" for kind, count in sorted(answers.items())) or "–"
        lines.append(f"| {name} | {row.done} | {end_of(name)} | {found.get('seconds', 'not run')} | {said} |")
    return "\n".join(lines) + "\n"
