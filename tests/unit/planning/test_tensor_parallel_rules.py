"""TP is never chosen by the planner; the user may set it where the family is correct in it."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes, Plans
from diffusion_runtime.planning.errors import BadRequest


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["manual", "auto", "speed", "memory"])
def test_never_by_itself(plan: Plans, gpus: Nodes, qwen: str, count: int, mode: str) -> None:
    assert plan(qwen, gpus(*["H200"] * 8), mode=mode, gpus_per_replica=count).layout.tensor == 1


def test_explicit_is_used_with_a_warning(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"), tensor=2)
    assert (found.gpus_per_replica, found.layout.tensor, found.layout.cfg) == (2, 2, 1)
    assert any("tensor" in warning for warning in found.warnings)


def test_refused_where_the_family_has_no_plan_for_it(answer: Answers, gpus: Nodes, wan: str) -> None:
    with pytest.raises(BadRequest, match="tensor is 2, which is not validated for wan"):
        answer(wan, gpus("H200", "H200"), tensor=2)
