"""One process group that draws many cases, for the parity tests. `draw_cases` starts it, `main` is its start.

Each case is built and drawn in the same ranks, one after the other: importing and joining are paid once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from diffusion_runtime.generation import picture
from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.warm import warm
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.parallel.environment import rank_environment
from diffusion_runtime.parallel.ranks import join
from diffusion_runtime.planning.documents import Execution, Shape
from engine.plans import DEMO

CPU = torch.device("cpu")
SECONDS = 240.0
WARMED = (Shape(width=64, height=96, steps=3),)


def requests() -> dict[str, PictureRequest]:
    """With and without guidance, of prompts whose token counts are odd and even."""
    fields: dict[str, Any] = {"width": 64, "height": 96, "steps": 3, "seed": 1}
    return {
        "guided": PictureRequest(prompt="a red circle", guidance_scale=4.0, **fields),
        "plain": PictureRequest(prompt="a red circle on the left", guidance_scale=1.0, **fields),
    }


def latents_of(execution: Execution, rank: int = 0) -> dict[str, torch.Tensor]:
    """Latents of every request on this rank, by request name; bytes of weights read, held before and after;
    how many graphs the requests had to compile.

    Before that one picture is broken off in the middle, which must leave no trace.
    """
    record = LoadRecord()
    built = build(str(DEMO), execution, rank, CPU, record)
    warm(built, WARMED, True, lambda phase, step: None)
    graphs = counters["stats"]["unique_graphs"]
    result = {"held": torch.tensor(held_bytes(built.pipeline.transformer))}
    result["read"] = torch.tensor(record.bytes_read)
    with contextlib.suppress(BrokenOff):
        picture.draw(built, requests()["guided"], break_off)
    for name, request in requests().items():
        result[name] = picture.draw_latents(built, request, lambda phase, step: None).clone()
    result["compiled late"] = torch.tensor(counters["stats"]["unique_graphs"] - graphs)
    result["held after"] = torch.tensor(held_bytes(built.pipeline.transformer))
    return result


class BrokenOff(Exception):
    """Raised by `break_off`."""


def break_off(phase: str, step: int) -> None:
    if (phase, step) == ("denoise", 1):
        raise BrokenOff


def held_bytes(module: torch.nn.Module) -> int:
    """Bytes of weights that this rank holds: of a sharded parameter its own part."""
    local = [getattr(p, "to_local", lambda p=p: p)() for p in module.parameters()]
    return sum(tensor.nbytes for tensor in local)


def draw_cases(cases: dict[str, Execution], ranks: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """By case: every rank's latents by request. Fails with the ranks' own words."""
    (folder / "cases.json").write_text(json.dumps({name: case.to_dict() for name, case in cases.items()}))
    environment = os.environ | rank_environment(1) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(ranks), str(folder)]
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=SECONDS, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return {
        name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(ranks)]
        for name in cases
    }


def main() -> int:
    """Fork the ranks, so that torch is imported once. The first rank that fails ends the others."""
    ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    children = [fork_rank(rank, ranks, folder) for rank in range(ranks)]
    while children:
        ended, status = os.wait()
        children.remove(ended)
        if status:
            for child in children:
                os.kill(child, signal.SIGKILL)
            return 1
    return 0


def fork_rank(rank: int, ranks: int, folder: Path) -> int:
    """Process id of a rank that draws every case and ends."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        join(folder / "rendezvous", rank, ranks, CPU, SECONDS)
        for name, case in json.loads((folder / "cases.json").read_text()).items():
            torch.save(latents_of(Execution.model_validate(case), rank), folder / f"{name}-{rank}.pt")
        code = 0
    except BaseException:  # noqa: BLE001  # a fork must never run its parent's code
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # as the rank process ends: a group's destructor can hang


if __name__ == "__main__":
    sys.exit(main())
