"""Which used bytes are foreign, through pods that start, serve and end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffusion_operator.node_agent.foreign import ForeignMemory
from diffusion_operator.node_agent.nvml import GpuReading, Memory, NvmlReading
from diffusion_operator.node_agent.pod_resources import Holders, PodName

GIB = 2**30
POD = PodName("team", "p")
HELD: Holders = {"GPU-0": frozenset({POD})}
FREE: Holders = {}


def reading(*used_gib: float) -> NvmlReading:
    gpus = (
        GpuReading(index, f"GPU-{index}", "A100", Memory(80 * GIB, 0, int(used * GIB)))
        for index, used in enumerate(used_gib)
    )
    return NvmlReading("580", tuple(gpus))


class Watcher:
    """Feeds looks to the memory and answers with foreign GiB of the first GPU."""

    def __init__(self) -> None:
        self.memory = ForeignMemory()

    def look(self, used_gib: float, before: Holders, after: Holders | None = None) -> float:
        seen = self.memory.observe(before, reading(used_gib), before if after is None else after)
        return seen.gpus[0].foreign_bytes / GIB


def test_use_of_a_gpu_that_no_pod_holds_is_foreign() -> None:
    watch = Watcher()
    assert [watch.look(used, FREE) for used in (0, 5, 3)] == [0, 5, 3]


def test_a_pods_own_use_never_is() -> None:
    watch = Watcher()
    assert watch.look(10, FREE) == 10
    assert [watch.look(used, HELD) for used in (12, 70, 79)] == [10, 10, 10]


def test_foreign_bytes_never_exceed_what_is_in_use() -> None:
    watch = Watcher()
    watch.look(10, FREE)
    assert [watch.look(used, HELD) for used in (30, 4, 30)] == [10, 4, 4]


def test_a_gpu_first_seen_with_a_pod_has_none() -> None:
    assert Watcher().look(70, HELD) == 0


def test_a_pod_that_starts_between_the_two_questions_is_not_foreign() -> None:
    watch = Watcher()
    watch.look(0, FREE)
    assert watch.look(40, FREE, HELD) == 0


def test_memory_that_an_ended_pod_leaves_for_a_moment_is_not_foreign() -> None:
    watch = Watcher()
    watch.look(0, FREE)
    watch.look(70, HELD)
    assert watch.look(70, HELD, FREE) == 0
    assert watch.look(70, FREE) == 0
    # It is still there a whole look later: then it belongs to nobody.
    assert watch.look(70, FREE) == 70


def test_each_gpu_stands_for_itself() -> None:
    seen = ForeignMemory().observe(HELD, reading(70, 8), HELD)
    assert [gpu.foreign_bytes for gpu in seen.gpus] == [0, 8 * GIB]
    assert [gpu.holders for gpu in seen.gpus] == [{POD}, set()]


@pytest.mark.parametrize("changes", [{"memory": None, "problem": "lost"}, {"mig": True}])
def test_unreadable_and_sliced_gpus_have_none(changes: dict[str, object]) -> None:
    gpu = replace(reading(9).gpus[0], **changes)  # type: ignore[arg-type]
    assert ForeignMemory().observe(FREE, NvmlReading("580", (gpu,)), FREE).gpus[0].foreign_bytes == 0


def test_a_new_agent_recalls_what_the_last_one_measured() -> None:
    memory = ForeignMemory()
    memory.recall({"GPU-0": 10 * GIB})
    assert memory.observe(HELD, reading(70), HELD).gpus[0].foreign_bytes == 10 * GIB
    memory.recall({"GPU-0": 60 * GIB})
    assert memory.observe(HELD, reading(70), HELD).gpus[0].foreign_bytes == 10 * GIB
