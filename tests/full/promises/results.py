"""docs/results/operator-promises: what the suite found, with the size of the run."""

from __future__ import annotations

import json
import os
from typing import Any

from localcluster.cache import digest
from localcluster.settings import KUBERNETES_VERSION, REPOSITORY

RESULT = REPOSITORY / "docs" / "results" / "operator-promises.json"
TABLE = RESULT.with_suffix(".md")
COVERED = (
    "operator/src/diffusion_operator",
    "charts/diffusion-operator",
    "tests/full/promises",
    "tests/builders/whole_pods.py",
    "tests/cluster/operatorpods.py",
)
ROWS = {
    "deployments": "deployments",
    "gpus": "GPUs of the nodes",
    "nodes": "nodes",
    "deeds": "created, scaled, changed and deleted",
    "versionsChecked": "resourceVersions at which the promises were added up",
    "mostPromisedGpus": "most GPUs promised at one of them",
    "violations": "of them with more promised than the nodes hold as whole pods",
    "leaderKills": "times that the leader was killed",
    "longestTakeoverSeconds": "longest time until another one led, s",
    "settledSeconds": "from the last wish to the last change of a promise, s",
    "promisedGpus": "GPUs promised at the end",
    "promisedWithoutAPlace": "deployments promised more replicas than have a node, at the end",
    "podsWithoutAPlace": "pods without a node at the end, none of them promised one",
}


def input_hash() -> str:
    """Over the operator, the chart and the suite."""
    return digest([REPOSITORY / path for path in COVERED])


def record(figures: dict[str, Any]) -> None:
    """Keep one run."""
    assert figures.keys() == ROWS.keys()
    document = {
        "suite": "operator-promises",
        "inputHash": input_hash(),
        "versions": {"kubernetes": KUBERNETES_VERSION},
        "cores": os.cpu_count(),
        "figures": figures,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(figures), encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """One line per figure."""
    lines = [
        "# No GPU is promised twice, on a real cluster",
        "",
        "Written by `make test-full SUITE=promises`. A kind cluster, Kubernetes "
        f"{KUBERNETES_VERSION}, with the chart's two replicas of the operator. The nodes, as many of 1 as of "
        "2, 4 and 8 GPUs, and the pods on them are KWOK's; API server, scheduler and controllers are the "
        "real ones, and the scheduler spreads pods. Deployments of 1, 2, 4 and 8 GPUs a replica are created, "
        "scaled, changed, deleted and made again, all at once; meanwhile the pod that leads is killed, by "
        "SIGKILL and by a forced deletion in turn. A watch adds up `status.placements` of all deployments at "
        "every resourceVersion.",
        "",
        "| what | figure |",
        "|---|---|",
    ]
    return (
        "\n".join([*lines, *(f"| {words} | {_said(figures[name])} |" for name, words in ROWS.items())]) + "\n"
    )


def _said(figure: Any) -> str:
    if isinstance(figure, dict):
        return ", ".join(f"{count} {deed}" for deed, count in figure.items())
    return str(figure)
