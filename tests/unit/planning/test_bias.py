"""The bias is a knob between memory (0) and speed (1): peak rises and time falls along it."""

from __future__ import annotations

from builders.asking import Nodes, Plans


def test_monotone_in_peak_and_time(plan: Plans, gpus: Nodes, wan: str) -> None:
    plans = [plan(wan, gpus("H200"), bias=step / 10) for step in range(11)]
    peaks = [p.memory.peak_per_gpu_bytes for p in plans]
    times = [p.time.per_request_seconds for p in plans]
    assert peaks == sorted(peaks)
    assert times == sorted(times, reverse=True)
    assert peaks[0] < peaks[-1]


def test_ends_are_least_memory_and_least_time(plan: Plans, gpus: Nodes, qwen: str) -> None:
    least = plan(qwen, gpus("H200"), mode="memory")
    assert plan(qwen, gpus("H200"), bias=0.0).memory.peak_per_gpu_bytes == least.memory.peak_per_gpu_bytes
    fastest = plan(qwen, gpus("H200"), mode="speed")
    assert plan(qwen, gpus("H200"), bias=1.0).time == fastest.time
