"""docs/results/chart.json: what the suite found, case by case, and which chart it is about."""

from __future__ import annotations

import json
from typing import Any

from builders.kept_results import kept
from localcluster.cache import digest
from localcluster.settings import HELM3_VERSION, HELM_VERSION, KUBERNETES_VERSION, REPOSITORY

RESULT = REPOSITORY / "docs" / "results" / "chart.json"
COVERED = (
    REPOSITORY / "charts" / "diffusion-operator",
    REPOSITORY / "crds",
    REPOSITORY / "tests" / "full" / "chart",
)


def input_hash() -> str:
    """Over the chart, the definitions and the suite itself."""
    return digest(COVERED)


def record(case: str, found: Any) -> None:
    """Keep what one case found; cases of another chart are dropped."""
    fresh: dict[str, Any] = {
        "suite": "chart",
        "inputHash": input_hash(),
        "versions": {"helm": HELM_VERSION, "helm3": HELM3_VERSION, "kubernetes": KUBERNETES_VERSION},
        "cases": {},
    }
    result = kept(RESULT, fresh)
    result["cases"][case] = found
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
