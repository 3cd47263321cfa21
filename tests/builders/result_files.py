"""`python -m builders.result_files` says which committed result files are older than the code they cover.

Part of `make check`. It only tells: a long suite is run again when its result is wanted, not at every change.
"""

from __future__ import annotations

import json
import sys

from builders import parity_result
from full.planner import test_properties_at_large as planner

FILES = (
    (planner.RESULT, planner.input_hash, "planner"),
    (parity_result.RESULT, parity_result.input_hash, "parity"),
)


def main() -> int:
    """Print one line per result file."""
    for file, input_hash, suite in FILES:
        recorded = json.loads(file.read_text())["inputHash"] if file.exists() else None
        state = "is current" if recorded == input_hash() else "is older than its code"
        hint = "" if recorded == input_hash() else f": make test-full SUITE={suite}"
        sys.stdout.write(f"docs/results/{file.name} {state}{hint}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
