"""The result file of the bad resources: kept batch by batch, so that a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builders.bad_resources import KINDS
from builders.kept_results import kept
from cluster.verdicts import Verdict

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "docs" / "results" / "bad-resources.json"
TABLE = RESULT.with_suffix(".md")
PACKAGE = "operator/src/diffusion_operator"
FILES = (
    "crds/diffusion-operator.io_diffusiondeployments.yaml",
    "tests/builders/bad_resources.py",
    "tests/builders/contradictions.py",
    "tests/builders/structural.py",
    "tests/cluster/good_neighbours.py",
    "tests/cluster/verdicts.py",
)
LEFT_OUT = ("/cli/", "/node_agent/", "/api/generate.py", "/api/reference.py")


def input_hash() -> str:
    """Over the schema, the operator and what is sent."""
    digest = hashlib.sha256()
    sources = [
        path for path in (REPOSITORY / PACKAGE).rglob("*.py") if not any(s in str(path) for s in LEFT_OUT)
    ]
    for path in sorted(
        [*sources, *Path(__file__).parent.glob("*.py"), *(REPOSITORY / name for name in FILES)]
    ):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def read_result() -> dict[str, Any]:
    """What earlier runs of the same sources have done."""
    fresh: dict[str, Any] = {"suite": "bad-resources", "inputHash": input_hash(), "batches": {}}
    return kept(RESULT, fresh)


def keep(batch: int, verdicts: Sequence[Verdict], seconds: float) -> None:
    """Write down one batch in which nothing was at fault."""
    admitted = [verdict for verdict in verdicts if not verdict.refused]
    result = read_result()
    result["batches"][str(batch)] = {
        "seconds": round(seconds, 1),
        "refused": Counter(verdict.kind for verdict in verdicts if verdict.refused),
        "admitted": Counter(verdict.kind for verdict in admitted),
        "reasons": Counter(verdict.said.split(":")[0] for verdict in admitted),
        "conditionSeconds": sorted(round(verdict.seconds, 3) for verdict in admitted),
        "tracebacks": 0,
        "neighboursChanged": 0,
    }
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """One line per kind, then what the admitted ones were told."""
    batches = list(result["batches"].values())
    refused, admitted, reasons = (_sum(batches, name) for name in ("refused", "admitted", "reasons"))
    waits = sorted(wait for batch in batches for wait in batch["conditionSeconds"])
    lines = [
        "# Bad resources and what becomes of them",
        "",
        "Written by `make test-full SUITE=bad_resources`. DiffusionDeployments made from the schema of the "
        "CRD, with a seed, were sent to the API server of the local cluster as kubectl sends them (strict "
        "about unknown fields), with the operator installed by Helm. A refusal counts only when its message "
        "names the path of the field. An admitted one counts only when all its conditions, with reasons, "
        "came within 5 s. Two deployments served meanwhile; a batch counts only when their pods and the "
        "times of their conditions stayed as they were, both drew a picture, no operator pod restarted, and "
        "no operator log held a traceback. Admitted ones may start on KWOK nodes, whose pods run nothing.",
        "",
        "| kind | sent | refused by the API server | admitted, told in conditions |",
        "|---|---|---|---|",
    ]
    lines += [f"| {k} | {refused[k] + admitted[k]} | {refused[k]} | {admitted[k]} |" for k in KINDS]
    total = refused.total(), admitted.total()
    lines.append(f"| all | {sum(total)} | {total[0]} | {total[1]} |")
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    lines += ["", f"Reasons of `Ready` in the first status of the admitted ones: {told}."]
    if waits:
        middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        words = f"p50 {middle:.2f} s, p99 {late:.2f} s, longest {waits[-1]:.2f} s"
        lines += ["", f"From the answer to the create to the conditions, four under way at once: {words}."]
    return "\n".join(lines) + "\n"


def _sum(batches: Sequence[dict[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for batch in batches:
        total.update(batch[name])
    return total
