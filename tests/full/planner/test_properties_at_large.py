"""12,000 generated questions to the planner, in batches that are kept: a run that was cut off goes on.

Writes docs/results/planner-properties.json: the hash of the sources it is about, counts and CPU seconds per
batch. Batches of an older hash are dropped. The batch number is the seed, so a failure can be run again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from builders.planner_cases import Case, cases, check

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "docs" / "results" / "planner-properties.json"
BATCHES, CASES_PER_BATCH = 24, 500
SOURCES = ("runtime_image/src/diffusion_runtime/planning", "runtime_image/src/diffusion_runtime/models")
PROPERTIES = Path("tests/builders/planner_cases.py")


def input_hash() -> str:
    """Over the planner, the model facts and the properties themselves."""
    digest = hashlib.sha256()
    files = [
        path
        for folder in SOURCES
        for path in (REPOSITORY / folder).rglob("*.*")
        if path.suffix in (".py", ".json")
    ]
    for path in sorted([*files, REPOSITORY / PROPERTIES]):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_answer_keeps_its_promises(batch: int) -> None:
    result = read_result()
    if str(batch) in result["batches"]:
        return
    tally: Counter[str] = Counter()

    @seed(batch)
    @settings(
        max_examples=CASES_PER_BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def run(case: Case) -> None:
        tally["cases"] += 1
        check(case, tally)

    start = process_time()
    run()
    result["batches"][str(batch)] = {"seconds": round(process_time() - start, 1), **tally}
    write_result(result)


def test_the_file_says_at_least_ten_thousand_cases() -> None:
    result = read_result()
    assert len(result["batches"]) == BATCHES
    assert result["cases"] >= 10_000
    assert min(result["plans"], result["refusals"], result["badRequests"], result["changedByMemory"]) > 100


def read_result() -> dict[str, Any]:
    """What earlier runs of the same sources have done."""
    fresh: dict[str, Any] = {"suite": "planner-properties", "inputHash": input_hash(), "batches": {}}
    if not RESULT.exists():
        return fresh
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return found if found["inputHash"] == fresh["inputHash"] else fresh


def write_result(result: dict[str, Any]) -> None:
    """With totals over all batches."""
    names = {
        "cases": "cases",
        "plans": "Plan",
        "refusals": "NoPlan",
        "badRequests": "BadRequest",
        "biasComparisons": "bias",
        "memoryComparisons": "more memory",
        "changedByMemory": "other execution",
        "seconds": "seconds",
    }
    batches = result["batches"].values()
    totals = {name: round(sum(batch.get(key, 0) for batch in batches), 1) for name, key in names.items()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**result, **totals}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
