"""The rows: which cases are run together, and which ratios they give. Every case has its own process.

A row is measured in one run on one GPU, ours beside plain diffusers; only its ratios and its own
milliseconds mean anything. Its file says the device, the versions, the command and every number.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, Runner
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.planning.documents import (
    AttentionSettings,
    CompileSettings,
    Execution,
    Layout,
    Residency,
    VaeSettings,
)

PROMPT = (
    "A lighthouse on a cliff above a calm sea at dawn, painted in oil, warm light on wet stone, gulls over "
    "the water, a small boat with a red sail far out, thin clouds and long shadows"
)
CASE_SECONDS = 420


@dataclass(frozen=True)
class Room:
    """Where a row runs: the folder of the model, the request, and a place for files. `tile_size`: of the
    engine's decodes while it warms up, for a clip whose whole decode does not fit; none is measured.
    """

    folder: Path
    request: dict[str, Any]
    scratch: Path
    repeats: int
    tile_size: int | None = None


def forward_row(room: Room) -> dict[str, Any]:
    """Resident and compiled: the engine against compiled diffusers."""
    cases = {
        "diffusers compiled": _case(room, "diffusers compiled"),
        "engine compiled": _case(room, "engine", _execution(room, compiled=True)),
    }
    results = _run_all(room, cases)
    names = ("engine compiled", "diffusers compiled")
    return {
        "cases": results,
        "ratios": {" / ".join(names): _ratio(results, *names)},
        "latents": {" - ".join(names): _difference(room, *names)},
    }


def eager_row(room: Room) -> dict[str, Any]:
    """Resident and not compiled: the engine against diffusers as it comes."""
    cases = {"diffusers": _case(room, "diffusers"), "engine": _case(room, "engine", _execution(room))}
    results = _run_all(room, cases)
    return {
        "cases": results,
        "ratios": {"engine / diffusers": _ratio(results, "engine", "diffusers")},
        "latents": {"engine - diffusers": _difference(room, "engine", "diffusers")},
    }


def flash_row(room: Room) -> dict[str, Any]:
    """FlashAttention-4 in the engine, compiled, against compiled diffusers as it comes."""
    cases = {
        "diffusers compiled": _case(room, "diffusers compiled"),
        "engine compiled, flash4": _case(room, "engine", _execution(room, compiled=True, attention="flash4")),
        "engine compiled": _case(room, "engine", _execution(room, compiled=True)),
    }
    results = _run_all(room, cases)
    return {
        "cases": results,
        "ratios": {
            f"{name} / diffusers compiled": _ratio(results, name, "diffusers compiled")
            for name in ("engine compiled, flash4", "engine compiled")
        },
        "latents": {
            "engine compiled, flash4 - diffusers compiled": _difference(
                room, "engine compiled, flash4", "diffusers compiled"
            )
        },
    }


def layerwise_row(room: Room) -> dict[str, Any]:
    """Blocks streamed from the host: all of them, and half; against the host link and diffusers."""
    transformer = next(c for c in facts_from_folder(room.folder).components if c.name == "transformer")
    half = transformer.block_count // 2
    cases = {
        "engine streams all": _case(room, "engine", _execution(room, compiled=True, streamed=0)),
        "engine streams half": _case(room, "engine", _execution(room, compiled=True, streamed=half)),
        "diffusers group offload": _case(room, "diffusers group offload"),
    }
    results = _run_all(room, cases)
    link = host_link_bytes_per_s()
    floor_ms = 1e3 * transformer.all_blocks_bytes("bfloat16") / link
    all_ms, half_ms = (results[f"engine streams {part}"].get("forward_ms") for part in ("all", "half"))
    group_ms = results["diffusers group offload"].get("forward_ms")
    return {
        "cases": results,
        "hostLinkBytesPerSecond": link,
        "floorMs": floor_ms,
        "ratios": {
            "all / (bytes / host link)": all_ms and all_ms / floor_ms,
            "half / all": all_ms and half_ms and half_ms / all_ms,
            "diffusers group offload / (bytes / host link)": group_ms and group_ms / floor_ms,
        },
        "latents": {"streams all - half": _difference(room, "engine streams all", "engine streams half")},
    }


ROWS: dict[str, Callable[[Room], dict[str, Any]]] = {
    "eager": eager_row,
    "forward": forward_row,
    "flash": flash_row,
    "layerwise": layerwise_row,
}


def host_link_bytes_per_s() -> float:
    """Pinned host memory to the GPU: 4 GiB, best of five."""
    script = (
        "import torch\n"
        "host = torch.empty(2**32, dtype=torch.uint8, pin_memory=True)\n"
        "device = torch.empty(2**32, dtype=torch.uint8, device='cuda')\n"
        "best = 0.0\n"
        "for _ in range(5):\n"
        "    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))\n"
        "    begin.record(); device.copy_(host, non_blocking=True); end.record(); torch.cuda.synchronize()\n"
        "    best = max(best, 2**32 / (begin.elapsed_time(end) / 1e3))\n"
        "print(best)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _execution(
    room: Room, *, compiled: bool = False, attention: str = "native", streamed: int | None = None
) -> dict[str, Any]:
    """One GPU. With `streamed`, that many blocks stay and all else than the transformer visits."""
    residency: dict[str, Residency] = {}
    for name, kind in open_folder(room.folder).kinds.items():
        if streamed is None:
            residency[name] = Residency(mode="resident")
        elif kind == "transformer":
            residency[name] = Residency(mode="layerwise", prefetch_blocks=1, resident_blocks=streamed)
        else:
            residency[name] = Residency(mode="component")
    execution = Execution(
        gpus_per_replica=1,
        layout=Layout(),
        residency=residency,
        dtype=dict.fromkeys(residency, "bfloat16"),
        compile=CompileSettings(enabled=compiled),
        attention=AttentionSettings(backend=attention),
        vae=VaeSettings(tiling=room.tile_size is not None, tile_size=room.tile_size),
    )
    return execution.to_dict()


def _case(room: Room, runner: Runner, execution: dict[str, Any] | None = None) -> Case:
    return Case(runner, str(room.folder), room.request, execution or {}, room.repeats)


def _run_all(room: Room, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    return {name: _run(room, name, case) for name, case in cases.items()}


def _run(room: Room, name: str, case: Case) -> dict[str, Any]:
    """The case's result, or the end of what it said; one failed case costs only its own numbers."""
    given, taken = room.scratch / f"{name}.in.json", room.scratch / f"{name}.out.json"
    given.write_text(json.dumps(asdict(case) | {"latents": str(room.scratch / f"{name}.pt")}))
    command = [sys.executable, "-m", "benchmarks.gpu.case", str(given), str(taken)]
    start = time.monotonic()
    try:
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=CASE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {CASE_SECONDS} s"}
    sys.stderr.write(f"{name}: {time.monotonic() - start:.0f} s, exit code {ended.returncode}\n")
    if ended.returncode != 0:
        sys.stderr.write(ended.stderr[-3000:] + "\n")
        return {"failed": ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]}
    result: dict[str, Any] = json.loads(taken.read_text())
    sys.stderr.write(f"{json.dumps(result)}\n")
    return result


def _ratio(results: dict[str, dict[str, Any]], ours: str, theirs: str) -> float | None:
    """Milliseconds of one forward; None when either failed."""
    pair = [results[name].get("forward_ms") for name in (ours, theirs)]
    return None if None in pair else pair[0] / pair[1]


def _difference(room: Room, one: str, other: str) -> float | None:
    """Norm of the difference over the norm of the second; None where a case left no latents."""
    import torch

    files = [room.scratch / f"{name}.pt" for name in (one, other)]
    if not all(file.is_file() for file in files):
        return None
    first, second = (torch.load(file, weights_only=True) for file in files)
    return float((first - second).norm() / second.norm())
