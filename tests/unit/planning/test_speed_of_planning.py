"""One plan takes less than 5 ms on one core (best of many, so that a busy machine does not decide)."""

from __future__ import annotations

from time import process_time

import pytest

from builders.asking import Nodes, Plans


@pytest.mark.parametrize("mode", ["manual", "auto", "speed", "memory"])
def test_under_five_milliseconds(plan: Plans, gpus: Nodes, wan: str, mode: str) -> None:
    node = gpus(*["L40S"] * 8)
    plan(wan, node, mode=mode)
    seconds = []
    for _ in range(30):
        start = process_time()
        plan(wan, node, mode=mode)
        seconds.append(process_time() - start)
    assert min(seconds) < 0.005
