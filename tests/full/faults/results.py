"""The result file of the fault suite: kept case by case, so that a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from builders.kept_results import kept
from wire.faults.outcome import Outcome
from wire.faults.table import FAULTS

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "docs" / "results" / "operator-faults.json"
TABLE = RESULT.with_suffix(".md")
FOLDERS = ("operator/src/diffusion_operator", "tests/wire/faults", "tests/full/faults")
FILES = (
    "tests/wire/clusterapi.py",
    "tests/wire/operators.py",
    "tests/wire/fakeapi.py",
    "tests/builders/simulated_time.py",
    "tests/builders/promises.py",
    "tests/unit/reconcile/fakecluster.py",
)
LEFT_OUT = ("/diffusion_operator/cli/", "/api/generate.py", "/api/reference.py")


def input_hash() -> str:
    """Over the operator, the faults and the cluster they are played in."""
    digest = hashlib.sha256()
    files = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    for path in sorted([*files, *(REPOSITORY / name for name in FILES)]):
        if not any(part in str(path) for part in LEFT_OUT):
            digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def read_result() -> dict[str, Any]:
    """What earlier runs of the same sources have done."""
    fresh: dict[str, Any] = {"suite": "operator-faults", "inputHash": input_hash(), "faults": {}}
    return kept(RESULT, fresh)


def keep(fault: str, case: str, outcome: Outcome, cpu_s: float) -> None:
    """Write down one case that passed."""
    result = read_result()  # anew: another part of the suite may run beside this one
    entry = {"seconds": round(outcome.seconds, 1), "runs": outcome.runs, "cpuSeconds": round(cpu_s, 1)}
    result["faults"].setdefault(fault, {})[case] = {**entry, **outcome.figures}
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """One line per fault."""
    lines = [
        "# Faults of the operator and how they end",
        "",
        "Written by `make test-full SUITE=faults`; the figures of every case are in `operator-faults.json`. "
        "The operator's reconciler, queue, workers, Lease and REST client are the real ones; they talk over "
        "loopback HTTP to an API server in memory that applies server-side apply, uids, garbage collection "
        "and the controllers' part. Time is simulated, except in F5; seconds are from the end of the "
        "fault to the last write, the longest of all runs. A case counts only when all that the column *end* "
        "says was asserted.",
        "",
        "| fault | what was done | runs | end | longest s |",
        "|---|---|---|---|---|",
    ]
    for name, fault in FAULTS.items():
        cases = result["faults"].get(name, {})
        runs = sum(case["runs"] for case in cases.values())
        longest = max((case["seconds"] for case in cases.values()), default=0.0)
        passed = f"{runs} in {len(cases)} of {len(fault.names())} cases"
        lines.append(f"| {name} | {fault.done} | {passed} | {fault.end} | {longest:.1f} |")
    peak = max(
        (
            case.get("peakRequestsPerSecond", 0)
            for cases in result["faults"].values()
            for case in cases.values()
        ),
        default=0,
    )
    crowd = result["faults"].get("promises", {}).values()
    writes, killed = (sum(case[name] for case in crowd) for name in ("writesChecked", "operatorsKilled"))
    flaps = result["faults"].get("F20", {}).get("the plan flaps", {})
    lines += [
        "",
        f"Most requests in one second of F6 and F7: {peak}. Promises were added up after {writes} writes, "
        f"with {killed} kills. 100 flips of a plan in 10 s lead to {flaps.get('writes', 0)} writes and "
        f"{flaps.get('rollouts', 0)} roll-outs.",
        "",
        "The wiring of kopf is tested on the wire in `tests/wire/test_watch_on_the_wire.py`; the election by "
        "itself in `tests/unit/operator/kube/"
        "test_leader_election.py`; whole processes with a Lease in "
        "`tests/wire/test_leader_on_the_wire.py`. Faults that need a real cluster (F8, F9, F12, F18) stand "
        "in `cluster-faults.md`.",
    ]
    return "\n".join(lines) + "\n"
