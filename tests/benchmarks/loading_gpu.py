"""`python tests/benchmarks/loading_gpu.py`: how fast 16 GB of weights reach a GPU, beside `load_file`.

Needs one CUDA GPU, torch, diffusers and diffusion-runtime; nothing else of this repository. It writes a
transformer of random bfloat16 weights in eight shards, reads it once into the page cache, then measures, each
several times, with the best and all runs kept:

- `safetensors.torch.load_file(shard, device="cuda")` over all shards;
- this engine's resident placement (every parameter read into its place on the GPU);
- component residency: the host copy filled, and page-locked;
- layerwise residency: the arena of all blocks filled, and page-locked;

and the host's peak beside the weights. Every parameter is compared once with what `load_file` gave. One JSON
row is printed and written to `--output`. Exit code 1 when an aim is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import load_file, save_file

import diffusion_runtime.residency.layerwise as layerwise_module
import diffusion_runtime.residency.placement as placement_module
from diffusion_runtime.loading.component import open_component
from diffusion_runtime.loading.reading import CHUNK_BYTES, SLOTS_PER_THREAD, thread_count
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.placement import place
from diffusion_runtime.storage import lock

SHARDS = 8
TIMES_FASTER = 3.0
ARENA_BYTES_PER_S = 8e9


def write_checkpoint(folder: Path, blocks: int) -> list[Path]:
    """Random weights of a Qwen-Image transformer with so many blocks (about 0.68 GB each)."""
    with torch.device("meta"):
        module = QwenImageTransformer2DModel(num_layers=blocks)
    module.save_config(folder)
    named = list(module.named_parameters())
    weight_map, files = {}, []
    for index in range(SHARDS):
        file = folder / f"diffusion_pytorch_model-{index + 1:05}-of-{SHARDS:05}.safetensors"
        part = dict(named[index * len(named) // SHARDS : (index + 1) * len(named) // SHARDS])
        weights = {
            name: torch.randn(p.shape, dtype=torch.bfloat16, device="cuda").cpu() for name, p in part.items()
        }
        save_file(weights, file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file.name)
        files.append(file)
    index_file = folder / "diffusion_pytorch_model.safetensors.index.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return files


def into_page_cache(files: list[Path]) -> int:
    """Read everything once; bytes."""
    buffer = bytearray(64 * 2**20)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass
    return sum(file.stat().st_size for file in files)


def held(kind: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the GPU has done it, and the result."""
    torch.cuda.synchronize()
    start = time.monotonic()
    result = work()
    torch.cuda.synchronize()
    return time.monotonic() - start, result


def dropped() -> None:
    """Give everything that is unreferenced back."""
    gc.collect()
    torch.cuda.empty_cache()


def ours(folder: Path, mode: str, device: torch.device) -> tuple[dict[str, float], torch.nn.Module, Any]:
    """Seconds of one load by stage (`lock` apart), the module, and what keeps its host memory."""
    record = LoadRecord()

    def timed_lock(memory: torch.Tensor, where: torch.device) -> None:
        with record.stage("lock"):
            lock(memory, where)

    placement_module.lock = layerwise_module.lock = timed_lock
    start = time.monotonic()
    module, fill = open_component(folder, QwenImageTransformer2DModel, torch.bfloat16, record)
    with record.stage("place"):
        blocks = list(module.transformer_blocks)
        in_use = place(module, Residency.model_validate({"mode": mode}), device, fill, blocks)
    torch.cuda.synchronize()
    return {**record.seconds, "total": time.monotonic() - start}, module, in_use


def same_bits(module: torch.nn.Module, files: list[Path]) -> bool:
    """Against `load_file`, one shard at a time."""
    parameters = dict(module.named_parameters())
    seen = 0
    for file in files:
        for name, tensor in load_file(file, device="cuda").items():
            seen += torch.equal(parameters[name], tensor)
    return seen == len(parameters)


def only_host_peak(folder: Path, mode: str) -> int:
    """How far host memory rises in a fresh process, bytes."""
    command = [sys.executable, __file__, "--peak-of", mode, "--folder", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stdout.split()[-1])


def print_host_peak(folder: Path, mode: str) -> None:
    device = torch.device("cuda", 0)
    torch.empty(1, device=device)
    before = held("VmRSS")
    kept = ours(folder, mode, device)
    print(held("VmHWM") - before, len(kept))


def measured(folder: Path, files: list[Path], size: int, runs: int) -> dict[str, Any]:
    """The row."""
    device = torch.device("cuda", 0)
    torch.empty(1, device=device)
    row: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(device), "torch": torch.__version__, "bytes": size,
        "cpus": len(os.sched_getaffinity(0)), "threads": thread_count(),
        "staging_bytes": thread_count() * SLOTS_PER_THREAD * CHUNK_BYTES,
    }  # fmt: skip
    plain, resident, component, layerwise = [], [], [], []
    for _ in range(runs):
        seconds, kept = timed(lambda: [load_file(file, device="cuda") for file in files])
        plain.append(seconds)
        del kept
        dropped()
        stages, module, in_use = ours(folder, "resident", device)
        resident.append(stages)
        if len(resident) == 1:
            row["same_bits"] = same_bits(module, files)
        del module, in_use
        dropped()
        for mode, found in (("component", component), ("layerwise", layerwise)):
            stages, module, in_use = ours(folder, mode, device)
            found.append(stages)
            del module, in_use
            dropped()
    row["load_file_gb_per_s"] = size / min(plain) / 1e9
    row["resident_read_gb_per_s"] = size / min(stages["read"] for stages in resident) / 1e9
    row["resident_total_gb_per_s"] = size / min(stages["total"] for stages in resident) / 1e9
    for name, found in (("component", component), ("layerwise", layerwise)):
        row[f"{name}_fill_and_lock_gb_per_s"] = size / min(s["read"] + s["lock"] for s in found) / 1e9
        row[f"{name}_runs"] = found
    row |= {"load_file_runs": plain, "resident_runs": resident}
    row["times_faster"] = row["resident_read_gb_per_s"] / row["load_file_gb_per_s"]
    row["host_peak_bytes"] = {
        mode: only_host_peak(folder, mode) for mode in ("resident", "component", "layerwise")
    }
    row["met"] = {
        "same bits": row["same_bits"],
        f"{TIMES_FASTER:g} x load_file": row["times_faster"] >= TIMES_FASTER,
        "arena 8 GB/s": row["layerwise_fill_and_lock_gb_per_s"] * 1e9 >= ARENA_BYTES_PER_S,
        "one copy on the host": row["host_peak_bytes"]["layerwise"] < 1.05 * size + 2**30,
    }
    return row


def main() -> int:
    """Exit code 0 when every aim is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is or will be (default: temporary)")
    parser.add_argument("--blocks", type=int, default=24, help="transformer blocks of 0.68 GB each")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("loading_gpu.json"))
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak_of:
        print_host_peak(args.folder, args.peak_of)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob("*.safetensors")) or write_checkpoint(folder, args.blocks)
        row = measured(folder, files, into_page_cache(files), args.runs)
    text = json.dumps(row)
    print(text)
    args.output.write_text(text + "\n")
    return 0 if all(row["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
