"""`python -m builders.result_files` says which committed result files are older than the code they cover.

Part of `make check`. It only tells: a long suite is run again when its result is wanted, not at every change.
"""

from __future__ import annotations

import json
import sys

from full.faults import results as faults
from full.planner import test_properties_at_large as planner
from full.soak import test_flat_memory as soak

SUITES = {"faults": faults, "planner": planner, "soak": soak}


def main() -> int:
    """Print one line per result file."""
    for name, suite in SUITES.items():
        current = json.loads(suite.RESULT.read_text())["inputHash"] == suite.input_hash()
        state = "is current" if current else f"is older than its code: make test-full SUITE={name}"
        sys.stdout.write(f"docs/results/{suite.RESULT.name} {state}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
