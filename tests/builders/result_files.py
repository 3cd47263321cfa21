"""`python -m builders.result_files` says which committed result files are older than the code they cover.

Part of `make check`. It only tells: a long suite is run again when its result is wanted, not at every change.
"""

from __future__ import annotations

import json
import sys

from full.planner.test_properties_at_large import RESULT, input_hash


def main() -> int:
    """Print one line per result file."""
    recorded = json.loads(RESULT.read_text())["inputHash"]
    current = recorded == input_hash()
    state = "is current" if current else "is older than its code: make test-full SUITE=planner"
    sys.stdout.write(f"docs/results/{RESULT.name} {state}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
