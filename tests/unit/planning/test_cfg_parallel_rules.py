"""CFG parallel: with guidance, from two GPUs on, and only when the user set no way of splitting the work."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes, Plans
from diffusion_runtime.planning.documents import Workload
from diffusion_runtime.planning.errors import BadRequest


def test_auto_takes_it_for_a_guided_model(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"))
    assert (found.gpus_per_replica, found.layout.cfg) == (2, 2)
    assert found.time.per_step_seconds < 1.1 * found.time.per_forward_seconds


def test_not_without_guidance(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"), workload=Workload(guidance="off"))
    assert (found.gpus_per_replica, found.layout.cfg) == (1, 1)


@pytest.mark.parametrize("mode", ["manual", "auto", "speed", "memory"])
def test_refusal_holds_in_every_mode(plan: Plans, gpus: Nodes, qwen: str, mode: str) -> None:
    assert plan(qwen, gpus("H200", "H200"), mode=mode, cfg_parallel=False).layout.cfg == 1


def test_not_beside_a_policy_of_the_user(plan: Plans, gpus: Nodes, qwen: str) -> None:
    layout = plan(qwen, gpus(*["H200"] * 4), ulysses=2).layout
    assert (layout.ulysses, layout.cfg) == (2, 1)


def test_asking_for_it_without_guidance_is_bad_input(answer: Answers, gpus: Nodes, qwen: str) -> None:
    with pytest.raises(BadRequest, match="only one branch") as refusal:
        answer(qwen, gpus("H200", "H200"), cfg=2, workload=Workload(guidance="off"))
    assert refusal.value.field == "cfg"


def test_three_branches_do_not_exist(answer: Answers, gpus: Nodes, qwen: str) -> None:
    with pytest.raises(BadRequest, match="use 1 or 2"):
        answer(qwen, gpus(*["H200"] * 3), cfg=3)
