"""Sizes that the family cannot draw are refused with sizes near by that it can; memory is for the
largest shape.
"""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes, Plans
from diffusion_runtime.planning.documents import Workload
from diffusion_runtime.planning.errors import BadRequest


def asked(**shape: int) -> Workload:
    return Workload.model_validate({"shapes": [{"width": 1024, "height": 1024, "steps": 50} | shape]})


@pytest.mark.parametrize(
    ("model", "shape", "field", "sentence"),
    [
        ("demo", {"width": 100}, "workload.shapes[0].width", "width is 100.*try 96 or 112"),
        ("demo", {"frames": 5}, "workload.shapes[0].frames", "single pictures"),
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", {"frames": 80}, "workload.shapes[0].frames", "try 77 or 81"),
    ],
)
def test_refused_with_what_would_work(
    answer: Answers, gpus: Nodes, model: str, shape: dict[str, int], field: str, sentence: str
) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        answer(model, gpus("H200"), workload=asked(**shape))
    assert refusal.value.field == field


def test_memory_for_the_largest_time_for_the_first(plan: Plans, gpus: Nodes, qwen: str) -> None:
    small, large = asked().shapes[0], asked(width=2048, height=2048).shapes[0]
    both = plan(qwen, gpus("H200"), workload=Workload(shapes=(small, large)))
    assert both.memory == plan(qwen, gpus("H200"), workload=Workload(shapes=(large,))).memory
    assert both.time == plan(qwen, gpus("H200"), workload=Workload(shapes=(small,))).time
