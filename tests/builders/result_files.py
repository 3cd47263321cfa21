"""`python -m builders.result_files` says which committed result files are older than the code they cover.

Part of `make check`. It only tells: a long suite is run again when its result is wanted, not at every change.
"""

from __future__ import annotations

import json
import sys

from builders import parity_result as parity
from full.bad_resources import results as bad_resources
from full.chart import outcome as chart
from full.cluster_faults import results as cluster_faults
from full.demo import test_every_layout as demo
from full.faults import results as faults
from full.planner import test_properties_at_large as planner
from full.promises import results as promises
from full.scale import test_a_thousand as scale
from full.soak import test_flat_memory as soak

SUITES = {
    "bad_resources": bad_resources,
    "chart": chart,
    "cluster_faults": cluster_faults,
    "demo": demo,
    "faults": faults,
    "parity": parity,
    "planner": planner,
    "promises": promises,
    "scale": scale,
    "soak": soak,
}


def main() -> int:
    """Print one line per result file."""
    for name, suite in SUITES.items():
        recorded = json.loads(suite.RESULT.read_text())["inputHash"] if suite.RESULT.exists() else None
        current = recorded == suite.input_hash()
        state = "is current" if current else f"is older than its code: make test-full SUITE={name}"
        sys.stdout.write(f"docs/results/{suite.RESULT.name} {state}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
