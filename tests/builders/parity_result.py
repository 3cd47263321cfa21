"""The result file of the parity suite, its readable table, and the planner's table that is made of it.

Torch-free, so that `make check` can ask whether the file is current. Pieces of the suite keep a file each
(builders.parity_shards), which only the merge brings together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusion_runtime.planning.parity import PARITY_FILE

REPOSITORY = Path(__file__).parents[2]
RESULT = REPOSITORY / "docs" / "results" / "parity.json"
TABLE = RESULT.with_suffix(".md")
ENGINE = REPOSITORY / "runtime_image" / "src" / "diffusion_runtime"
ROOMS = ("generation", "loading", "parallel", "residency")
BUILDERS = ("parity_*.py", "poison.py", "small_*.py")
Case = dict[str, Any]


def input_hash() -> str:
    """Over the engine's rooms that draw, the small pipelines and the cases."""
    digest = hashlib.sha256()
    files = [path for room in ROOMS for path in (ENGINE / room).rglob("*.py")]
    files += [path for pattern in BUILDERS for path in Path(__file__).parent.glob(pattern)]
    for path in sorted(files):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def parts_folder() -> Path:
    """Where pieces of the suite keep what they have drawn."""
    return Path(os.environ.get("DIFFUSION_PARITY_PARTS", RESULT.parent / "parity-parts"))


def read_cases(file: Path = RESULT) -> dict[str, Case]:
    """What earlier runs of the same sources have drawn, by case name."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return dict(found["cases"]) if found["inputHash"] == input_hash() else {}


def write_cases(cases: dict[str, Case], file: Path = RESULT) -> None:
    """With counts."""
    failed = sorted(name for name, case in cases.items() if not case["passed"])
    result = {
        "suite": "parity",
        "inputHash": input_hash(),
        "drawn": len(cases),
        "failed": failed,
        "seconds": round(sum(case["seconds"] for case in cases.values()), 1),
        "cases": dict(sorted(cases.items())),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".tmp")  # a run may be cut off while it writes
    whole.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    whole.replace(file)


def write_tables(cases: dict[str, Case]) -> None:
    """The planner's table and the readable one. An axis or residency passes when every case of it does."""
    families: dict[str, dict[str, list[Case]]] = {}
    for case in cases.values():
        for name in case["covers"]:
            families.setdefault(case["family"], {}).setdefault(name, []).append(case)
    table = {
        family: {
            outcome: sorted(name for name, drawn in names.items() if _passed(drawn) == (outcome == "passed"))
            for outcome in ("passed", "failed")
        }
        for family, names in sorted(families.items())
    }
    PARITY_FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text("\n".join(_lines(families)) + "\n", encoding="utf-8")


def _lines(families: dict[str, dict[str, list[Case]]]) -> Iterable[str]:
    yield from (
        "# Parity with plain diffusers",
        "",
        "Small pipelines of random weights with the families' real classes, on the CPU over gloo, 1, 2 and 4",
        "ranks, each with and without guidance, against one rank of plain diffusers. Weights that are not in",
        "use are NaN. Differences are the largest of any latent (standard deviation about 1) on any rank:",
        "5e-5 in float32 is allowed; bfloat16 may be no further from plain float32 than twice what plain",
        "bfloat16 is.",
        "",
        "Written by `make test-full SUITE=parity`, which goes on where it was cut off; every case is in",
        "`parity.json`. The planner offers nothing that fails here.",
        "",
        *(f"Drawn with {software}: {count} cases." for software, count in _software(families).items()),
        "",
        "| family | layout or residency | cases | passed | differs by: float32 | compiled | bfloat16 |",
        "|---|---|---|---|---|---|---|",
    )
    for family, names in sorted(families.items()):
        for name, drawn in sorted(names.items()):
            passed = sum(case["passed"] for case in drawn)
            columns = (_largest(drawn, kind) for kind in ("float32", "compiled", "bfloat16"))
            yield f"| {family} | {name} | {len(drawn)} | {passed} | {' | '.join(columns)} |"


def _software(families: dict[str, dict[str, list[Case]]]) -> Counter[str]:
    """What drew how many cases; each covers several names."""
    drawn = {id(case): case for names in families.values() for cases in names.values() for case in cases}
    return Counter(case.get("drawnWith", "unknown versions") for case in drawn.values())


def _passed(drawn: list[Case]) -> bool:
    return all(case["passed"] for case in drawn)


def _largest(drawn: list[Case], kind: str) -> str:
    found = [case["difference"] for case in drawn if case["kind"] == kind and "difference" in case]
    return f"{max(found):.1e}" if found else "-"
