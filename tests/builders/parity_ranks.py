"""One process group that draws many cases, for the parity tests. `draw_cases` starts it, `main` is its start.

Each case is built and drawn in the same ranks, one after the other: importing and joining are paid once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch._dynamo.utils import counters

from builders.parity_families import PARITY
from builders.parity_through_host import through_the_host
from builders.poison import poison
from diffusion_runtime.generation import picture
from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.warm import warm
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.parallel.environment import rank_environment
from diffusion_runtime.parallel.ranks import join
from diffusion_runtime.planning.documents import Document, Execution, Shape

CPU = torch.device("cpu")
Where = Literal["cpu", "cuda", "nccl"]
"""On the host; on CUDA tensors, all ranks on the first GPU; each rank on its own GPU."""
SECONDS = 240.0
Drawn = dict[str, torch.Tensor]


class Case(Document):
    """One small pipeline in its folder, and how it is executed."""

    name: str
    pipeline: str
    folder: str
    execution: Execution


class Cases(Document):
    """What one group draws."""

    cases: tuple[Case, ...]


def latents_of(case: Case, rank: int = 0, device: torch.device = CPU) -> Drawn:
    """Latents of every request on this rank, by request name; bytes of weights read, held before and after;
    how many graphs the requests had to compile. On a GPU also the bytes that this rank has allocated there
    before the first request, and those that its weights there take.

    Before that one picture is broken off in the middle, which must leave no trace.
    """
    requests = PARITY[case.pipeline].requests()
    shape = Shape(**requests["guided"].model_dump(include={"width", "height", "frames", "steps"}))
    record = LoadRecord()
    before = allocated_by_earlier_cases(device)
    built = build(case.folder, case.execution, rank, device, record)
    result = memory_of(built.pipeline, before) if device.type == "cuda" else {}
    warm(built, (shape,), True, lambda phase, step: None)
    graphs = counters["stats"]["unique_graphs"]
    result["held"] = torch.tensor(held_bytes(built.pipeline.transformer))
    result["read"] = torch.tensor(record.bytes_read)
    with contextlib.suppress(BrokenOff):
        picture.draw(built, requests["guided"], break_off)
    for name, request in requests.items():
        result[name] = picture.draw_latents(built, request, lambda phase, step: None).clone().cpu()
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


def allocated_by_earlier_cases(device: torch.device) -> int:
    """Bytes on the GPU that this process cannot give back, such as constants of compiled graphs."""
    if device.type == "cpu":
        return 0
    gc.collect()
    return torch.cuda.memory_allocated()


def memory_of(pipeline: Any, before: int) -> Drawn:
    """What torch has allocated on the GPU since `before`; the bytes of all parameters and buffers there."""
    modules = [part for part in vars(pipeline).values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    local = [getattr(tensor, "to_local", lambda tensor=tensor: tensor)() for tensor in tensors]
    there = {tensor.data_ptr(): tensor.nbytes for tensor in local if tensor.is_cuda}
    return {
        "allocated": torch.tensor(torch.cuda.memory_allocated() - before),
        "weights": torch.tensor(sum(there.values())),
    }


def draw_cases(
    cases: Sequence[Case], ranks: int, folder: Path, where: Where = "cpu"
) -> Iterator[tuple[str, list[Drawn]]]:
    """Every case's name and every rank's latents by request, as soon as the group has drawn it.

    Fails with the ranks' own words.
    """
    (folder / "cases.json").write_text(Cases(cases=tuple(cases)).to_json())
    # A rank compiles by itself: with the default, each would start as many workers as there are cores.
    alone = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    # A rank that a signal ends has no last words of its own.
    last_words = {"PYTHONFAULTHANDLER": "1"}
    environment = os.environ | rank_environment(1, "cpu" if where == "cpu" else "cuda") | alone | last_words
    command = [sys.executable, __file__, str(ranks), str(folder), where]
    with (folder / "stderr").open("w+") as words:
        group = subprocess.Popen(command, env=environment, stderr=words)
        try:
            for number, case in enumerate(cases):
                files = [folder / f"{number}-{rank}.pt" for rank in range(ranks)]
                wait_for(files, group)
                missing = [file for file in files if not file.exists()]
                assert not missing, f"{case.name}: {(folder / 'stderr').read_text()[-4000:]}"
                yield case.name, [torch.load(file, weights_only=True) for file in files]
            assert group.wait(SECONDS) == 0
        finally:
            group.kill()
            group.wait()


def wait_for(files: Sequence[Path], group: subprocess.Popen[bytes]) -> None:
    """Until all files are there or the group has ended."""
    while not all(file.exists() for file in files):
        with contextlib.suppress(subprocess.TimeoutExpired):
            group.wait(0.05)
            return


def main() -> int:
    """Start the ranks, or be one where that is an argument. The first rank that fails ends the others."""
    ranks, folder, where = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    if len(sys.argv) > 4:
        end_rank(run_rank(int(sys.argv[4]), ranks, folder, where))
    start = fork_rank if where == "cpu" else spawn_rank
    children = [start(rank, ranks, folder, where) for rank in range(ranks)]
    while children:
        ended, status = os.wait()
        children.remove(ended)
        if status:
            sys.stderr.write(f"a rank ended: {os.waitstatus_to_exitcode(status)}\n")
            for child in children:
                os.kill(child, signal.SIGKILL)
            return 1
    return 0


def fork_rank(rank: int, ranks: int, folder: Path, where: str) -> int:
    """Process id of a rank that draws every case and ends. Forked, so that torch is imported once."""
    child = os.fork()
    if child:
        return child
    end_rank(run_rank(rank, ranks, folder, where))


def end_rank(code: int) -> NoReturn:
    """As the engine's rank process ends: a group's destructor can hang."""
    sys.stderr.flush()
    os._exit(code)


def spawn_rank(rank: int, ranks: int, folder: Path, where: str) -> int:
    """The same in a new process: CUDA does not survive a fork once anything has counted the devices."""
    words = [sys.executable, __file__, str(ranks), str(folder), where, str(rank)]
    return os.posix_spawn(sys.executable, words, os.environ)


def run_rank(rank: int, ranks: int, folder: Path, where: str) -> int:
    """Join, draw every case. 1 when that failed: a fork must never run its parent's code."""
    # After a fork torch makes its pool of threads anew, which the threads of a loader cannot do at once.
    torch.set_num_threads(1)
    try:
        device = join_group(folder / "rendezvous", rank, ranks, where)
        cases = Cases.model_validate_json((folder / "cases.json").read_text()).cases
        for number, case in enumerate(cases):
            unfinished = folder / f"{number}-{rank}.part"
            torch.save(latents_of(case, rank, device), unfinished)
            unfinished.rename(folder / f"{number}-{rank}.pt")
    except BaseException:  # noqa: BLE001  # whatever it was, the group must hear of it
        traceback.print_exc()
        return 1
    return 0


def join_group(rendezvous: Path, rank: int, ranks: int, where: str) -> torch.device:
    """The device that this rank draws on."""
    if where == "cpu":
        poison()
        join(rendezvous, rank, ranks, CPU, SECONDS)
        return CPU
    torch.backends.cudnn.allow_tf32 = False
    if where == "nccl" and ranks > 1:
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        join(rendezvous, rank, ranks, device, SECONDS)
        return device
    torch.cuda.set_device(0)
    # NCCL refuses two ranks on one GPU, gloo does not. One rank alone is a group of NCCL.
    torch.distributed.init_process_group(
        "nccl" if ranks == 1 else "cpu:gloo,cuda:gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=ranks,
    )
    if ranks > 1:
        through_the_host()
    return torch.device("cuda")


if __name__ == "__main__":
    sys.exit(main())
