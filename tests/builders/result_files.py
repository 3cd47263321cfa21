"""`python -m builders.result_files` says which committed result files are older than the code they cover.

Part of `make check`. It only tells: a long suite is run again when its result is wanted, not at every change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from full.chart import outcome as chart
from full.planner import test_properties_at_large as planner

RESULTS: tuple[tuple[str, Path, Callable[[], str]], ...] = (
    ("planner", planner.RESULT, planner.input_hash),
    ("chart", chart.RESULT, chart.input_hash),
)


def main() -> int:
    """Print one line per result file."""
    for suite, file, input_hash in RESULTS:
        current = json.loads(file.read_text())["inputHash"] == input_hash()
        state = "is current" if current else f"is older than its code: make test-full SUITE={suite}"
        sys.stdout.write(f"docs/results/{file.name} {state}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
