"""What `bench` measures: every combination once, and a clear sentence for what it does not understand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.commands import bench
from diffusion_runtime.commands.measurement import Failed, Measured
from diffusion_runtime.commands.sweep import Sweep, sizes_from_flag, sweep
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.calibrations import read_calibrations
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import PhaseMeasurement, Plan, Shape, Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.intent import Intent

QWEN = facts_for("Qwen/Qwen-Image")
TWO_H200 = GpuNode(name="here", gpus=(device_from_product("NVIDIA-H200"),) * 2)
SIZE = Shape(width=1024, height=1024, steps=50)


def planned(*modes: str, layouts: tuple[str, ...] = ("planned",), node: GpuNode = TWO_H200) -> Sweep:
    return sweep(QWEN, Workload(), Intent(), node, modes=modes, layouts=layouts, shapes=[SIZE])


def test_modes_that_choose_the_same_are_measured_once() -> None:
    found = planned("auto", "speed", "memory").candidates
    assert [candidate.names for candidate in found][-1] == ("memory",)
    assert sum(len(candidate.names) for candidate in found) == 3
    assert len({candidate.plan.hash for candidate in found}) == len(found) < 3


def test_layouts_are_followed_to_the_letter() -> None:
    layouts = ("gpus=1", "cfg=2", "ulysses=2", "cfg=2+fsdp")
    found = planned("auto", layouts=layouts).candidates
    made = [
        (c.plan.gpus_per_replica, c.plan.layout.cfg, c.plan.layout.ulysses, c.plan.layout.fsdp) for c in found
    ]
    assert made == [(1, 1, 1, False), (2, 2, 1, False), (2, 1, 2, False), (2, 2, 1, True)]


def test_a_plan_that_does_not_fit_is_told_and_the_others_stay() -> None:
    small = GpuNode(name="here", gpus=(device_from_product("NVIDIA-H200", free_bytes=20 * 2**30),))
    found = planned("auto", "memory", layouts=("planned", "cfg=2"), node=small)
    assert found.candidates
    assert found.without_plan
    assert all("cfg=2" in words for words in found.without_plan)


def test_sizes() -> None:
    wide, clip = sizes_from_flag("832x480, 832x480x81", SIZE)
    assert (wide.width, wide.height, wide.frames, wide.steps) == (832, 480, 1, 50)
    assert clip.frames == 81


@pytest.mark.parametrize("text", ["1024", "1024x", "axb", "", "1024x1024;512x512"])
def test_a_size_that_is_none_is_named(text: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(repr(text))):
        sizes_from_flag(text, SIZE)


@pytest.mark.parametrize(
    ("mode", "layout", "word"), [("fast", "planned", "fast"), ("2", "planned", "2"), ("auto", "tp=2", "tp=2")]
)
def test_words_that_are_not_understood_are_named(mode: str, layout: str, word: str) -> None:
    with pytest.raises(BadRequest, match=repr(word)):
        planned(mode, layouts=(layout,))


def seconds_and_bytes(plan: Plan, *_: Any) -> Measured | Failed:
    """Stands for the engine: the plan with the least memory fails, the others take what was predicted."""
    if plan.mode == "memory":
        return Failed("CudaOutOfMemory: asked for 2GiB.")
    peak = plan.memory.peak_per_gpu_bytes
    phase = PhaseMeasurement(driver_bytes=peak, seconds=2.0)
    return Measured(peak, plan.time.per_step_seconds, plan.time.per_request_seconds, {"denoise": phase})


def run_bench(folder: Path, patch: pytest.MonkeyPatch, *flags: str) -> int:
    patch.setattr(bench, "node_here", lambda _: TWO_H200)
    patch.setattr(bench, "measure", seconds_and_bytes)
    patch.setattr(bench, "local_model", lambda args: args.model_path)
    return main(["bench", "--model-path", "Qwen/Qwen-Image", "--output", str(folder), *flags])


def test_what_was_measured_becomes_calibrations_that_the_planner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(tmp_path, monkeypatch, "--modes", "auto,memory", "--sizes", "1024x1024,512x512") == 0
    told = capsys.readouterr()
    assert told.err.count("failed: ") == 2
    assert "2 calibrations" in told.out
    entries = json.loads((tmp_path / "bench.json").read_text())
    assert len(entries) == 2
    assert all(entry["plannedPeakBytes"] == entry["measuredPeakBytes"] > 0 for entry in entries)
    documents = read_calibrations(tmp_path / "calibrations")
    assert {document.shape.width for document in documents} == {512, 1024}
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    flags = ["--gpu", "H200", "--gpu", "H200", "--output", "json"]
    flags += ["--calibrations", str(tmp_path / "calibrations")]
    assert (
        main(["plan", "--model-path", "Qwen/Qwen-Image", "--width", "1024", "--height", "1024", *flags]) == 0
    )
    assert json.loads(capsys.readouterr().out)["source"] in ("measured", "calibrated")


def test_bench_ends_in_words_when_nothing_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(tmp_path, monkeypatch, "--modes", "memory") == 1
    assert "no plan could be measured" in capsys.readouterr().err
    assert run_bench(tmp_path, monkeypatch, "--repeats", "0") == 2
    assert "--repeats is 0" in capsys.readouterr().err
    assert run_bench(tmp_path / "missing", monkeypatch, "--layouts", "gpus=3") == 2
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run_bench(blocked, monkeypatch) == 2
    assert "cannot be made" in capsys.readouterr().err
