"""Fallbacks: complete, same GPU count, each peaks lower than the one before."""

from __future__ import annotations

from itertools import pairwise

import pytest

from builders.asking import Nodes, Plans


@pytest.mark.parametrize("product", ["H200", "L40S", "RTX-5090"])
def test_falling_peaks_on_the_same_gpus(plan: Plans, gpus: Nodes, wan: str, product: str) -> None:
    found = plan(wan, gpus(product, product))
    peaks = [found.memory.peak_per_gpu_bytes, *(f.peak_per_gpu_bytes for f in found.fallbacks)]
    assert 1 <= len(found.fallbacks) <= 4
    assert all(later < earlier for earlier, later in pairwise(peaks))
    assert {f.gpus_per_replica for f in found.fallbacks} == {found.gpus_per_replica}
    assert len({f.hash for f in found.fallbacks}) == len(found.fallbacks)


def test_none_that_would_free_next_to_nothing(plan: Plans, gpus: Nodes) -> None:
    assert plan("demo", gpus("H200")).fallbacks == ()
