"""Every fault that can be had without a cluster, in full; a case that passed with these sources is kept.

Writes docs/results/operator-faults.json and the table beside it.
"""

from __future__ import annotations

import logging
from time import process_time

import pytest

from full.faults.results import keep, read_result
from wire.faults.table import FAULTS

CASES = [(fault, case) for fault, entry in FAULTS.items() for case in sorted(entry.names())]


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The operator warns of what the faults do to it, thousands of times."""
    logging.getLogger("diffusion_operator").setLevel(logging.CRITICAL)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("fault", "case"), CASES, ids=[f"{fault}: {case}" for fault, case in CASES])
def test_it_ends_as_if_nothing_had_happened(fault: str, case: str) -> None:
    if case in read_result()["faults"].get(fault, {}):
        return
    start = process_time()
    outcome = FAULTS[fault].run(case)
    keep(fault, case, outcome, process_time() - start)


def test_the_file_holds_every_case() -> None:
    result = read_result()
    assert {fault: entry.names() for fault, entry in FAULTS.items()} == {
        fault: set(cases) for fault, cases in result["faults"].items()
    }
