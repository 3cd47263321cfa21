"""A real rank whose guidance exchange goes wrong: `faulty_rank.py FOLDER FAULT...`, one fault a rank group.

A fault is `oom` (rank 1 runs out of memory while rank 0 waits in the collective) or `stuck` (rank 1 never
joins it). Each happens once: files in FOLDER say which have happened; after the last all goes well.

Ranks read no command before both have imported everything: on a busy machine that takes one of them much
longer, and a group's short patience is for its collectives.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from diffusion_runtime.generation import build  # noqa: F401  # what a rank imports before it joins
from diffusion_runtime.generation.rank import Channel, RankProcess, claim_stdout
from diffusion_runtime.parallel.cfg import CfgCalls

FOLDER, FAULTS = Path(sys.argv[1]), sys.argv[2:]
gather = CfgCalls._gather


def faulty(self: CfgCalls, *args: Any) -> Any:
    left = [fault for fault in FAULTS if not (FOLDER / fault).exists()]
    if self._rank == 1 and left:
        (FOLDER / left[0]).touch()
        if left[0] == "stuck":
            threading.Event().wait()  # the channel's own thread goes on answering pings
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
            "which 1.50 GiB is free."
        )
    return gather(self, *args)


def await_the_other() -> None:
    """Until as many ranks as make whole groups of two have got here."""
    (FOLDER / f"imported-{os.getpid()}").touch()
    while len(list(FOLDER.glob("imported-*"))) % 2:
        time.sleep(0.05)


CfgCalls._gather = faulty  # type: ignore[method-assign]
await_the_other()
code = RankProcess(Channel(sys.stdin.buffer, claim_stdout())).run()
sys.stderr.flush()
os._exit(code)
