"""Files are read whole, once, into their final place; what goes wrong names the file; progress is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_runtime.loading import reading
from diffusion_runtime.loading.component import open_component
from diffusion_runtime.loading.reading import Read, read_all
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.placement import place
from engine.small_components import write_component


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of few bytes, none of which ends where a tensor ends."""
    monkeypatch.setattr(reading, "CHUNK_BYTES", 56)


def written(path: Path, tensor: torch.Tensor, lead: bytes = b"head") -> Path:
    path.write_bytes(lead + tensor.view(torch.uint8).numpy().tobytes() + b"tail")
    return path


@pytest.mark.parametrize("target", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("threads", [1, 4])
def test_every_element_arrives_in_the_targets_dtype(
    tmp_path: Path, target: torch.dtype, threads: int
) -> None:
    stored = torch.randn(1001)
    file = written(tmp_path / "a", stored)
    into, told = torch.empty(1001, dtype=target), []
    read_all([Read(file, 4, torch.float32, into)], told.append, threads)
    assert torch.equal(into, stored.to(target))
    assert sum(told) == 4004


def test_rows_are_read_from_where_they_lie(tmp_path: Path) -> None:
    stored = torch.randn(10, 7)
    file = written(tmp_path / "a", stored.view(-1))
    into = torch.empty(3, 7)
    read_all([Read(file, 4 + 4 * 7 * 4, torch.float32, into)])
    assert torch.equal(into, stored[4:7])


def test_scalars_and_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "a", torch.tensor([3.5]))
    into = torch.empty(())
    read_all([Read(file, 4, torch.float32, into), Read(file, 4, torch.float32, torch.empty(0, 5))])
    assert into.item() == 3.5
    read_all([])


def test_file_that_shrank_is_named_and_the_others_stop(tmp_path: Path) -> None:
    """Headers are checked before; this is a file cut while it is being read."""
    file = written(tmp_path / "weights.safetensors", torch.randn(1000))
    os.truncate(file, 2000)
    with pytest.raises(EngineRefusal, match=r"weights\.safetensors is truncated: it has 2000 bytes"):
        read_all([Read(file, 4, torch.float32, torch.empty(1000))], threads=3)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal, match=r"gone\.safetensors cannot be read: No such file"):
        read_all([Read(tmp_path / "gone.safetensors", 0, torch.float32, torch.empty(1))])
    with pytest.raises(EngineRefusal, match="cannot be read at byte 0: Is a directory"):
        read_all([Read(tmp_path, 0, torch.float32, torch.empty(1))])


def test_progress_is_told_at_most_every_five_seconds() -> None:
    now, told = [0.0], []
    record = LoadRecord(lambda done, total: told.append((done, total)), lambda: now[0])
    record.expect(100)
    for second in range(12):
        now[0] = float(second)
        record.add(5)
    assert told == [(30, 100), (55, 100)]
    assert record.bytes_read == 60


def test_a_stage_inside_another_is_counted_once() -> None:
    now = [0.0]
    record = LoadRecord(clock=lambda: now[0])
    with record.stage("place"):
        now[0] += 1
        with record.stage("read"):
            now[0] += 10
        now[0] += 2
    assert record.seconds == {"place": 3, "read": 10}


@pytest.mark.parametrize("mode", ["resident", "component"])
def test_a_component_is_read_once(tmp_path: Path, mode: Any) -> None:
    cls = write_component("QwenImageTransformer2DModel", tmp_path)
    record = LoadRecord()
    module, fill = open_component(tmp_path, cls, torch.bfloat16, record)
    assert all(parameter.is_meta for parameter in module.parameters())
    place(module, Residency(mode=mode), torch.device("cpu"), fill)
    stored = sum(4 * parameter.numel() for parameter in module.parameters())  # the file has float32
    assert record.bytes_read == stored
    assert set(record.seconds) == {"build", "read"}
