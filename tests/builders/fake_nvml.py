"""Builds the fake NVML library from its C source and writes the file that says which GPUs it shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.host import require_packages
from localcluster.shell import run

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
STATE_VARIABLE = "FAKE_NVML_STATE"
GIB = 2**30


@dataclass(frozen=True)
class FakeGpu:
    """One GPU of the fake; errors are codes of nvml.h, 15 is a lost GPU. `mig` 2: it cannot be cut."""

    uuid: str
    used_bytes: int = 0
    total_bytes: int = 80 * GIB
    reserved_bytes: int = GIB // 2
    product: str = "NVIDIA A100-SXM4-80GB"
    pcie: tuple[int, int, int] = (4, 16, 16)
    mig: int = 0
    handle_error: int = 0
    memory_error: int = 0


def build_fake_nvml(folder: Path) -> Path:
    """Compile the library into a folder. Raises one sentence when there is no C compiler to be had."""
    require_packages(("gcc", "libc6-dev"), "building the fake NVML library of the node agent's tests")
    library = folder / LIBRARY
    # Without a soname: a later search for the real library must not find this one in the same process.
    run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE])
    return library


def fake_nvml_state(
    gpus: Sequence[FakeGpu],
    *,
    nvlinks: Sequence[tuple[int, int]] = (),
    init_error: int = 0,
    only_first_memory_call: bool = False,
) -> str:
    """The text of the state file."""
    lines = ["driver\t580.95.05", f"init\t{init_error}"]
    if only_first_memory_call:
        lines.append("v1\tyes")
    lines += ["\t".join(map(str, ("gpu", *_fields(gpu)))) for gpu in gpus]
    lines += [f"nvlink\t{one}\t{other}" for one, other in nvlinks]
    return "\n".join(lines) + "\n"


def write_state(path: Path, text: str) -> None:
    """Replace the state file in one move, as a reader may be at it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def _fields(gpu: FakeGpu) -> tuple[object, ...]:
    memory = (gpu.total_bytes, gpu.reserved_bytes, gpu.used_bytes)
    return (gpu.uuid, gpu.product, *memory, *gpu.pcie, gpu.mig, gpu.handle_error, gpu.memory_error)
