"""The oracle that counts says the same as packing the largest pods first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.whole_pods import SIZES, misfit
from diffusion_operator.inventory.claims import pack

counts = st.dictionaries(st.sampled_from(SIZES), st.integers(0, 6))


@given(counts, counts)
def test_counting_says_what_packing_finds(nodes: dict[int, int], pods: dict[int, int]) -> None:
    free = {f"{size}-{number}": size for size, count in nodes.items() for number in range(count)}
    fits = True
    for gpus, count in sorted(pods.items(), reverse=True):
        places = pack(free, gpus, count)
        for name in places:
            free[name] -= gpus
        fits = fits and len(places) == count
    assert (misfit(nodes, pods) == "") == fits


def test_a_size_that_counting_cannot_judge_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes \[3\]"):
        misfit({4: 1}, {3: 1})
