"""A rank without torch (nor pydantic: it must start fast) for the parent's fault tests.

It speaks the real protocol and misbehaves as its script says. The script is a JSON file: one entry per group,
in order of starting; the last entry repeats. An entry is {"start": WHAT, "draw": WHAT, "rank": N, "others":
WHAT}: start and draw apply to rank N alone (to all when absent), `others` is what the other ranks do with a
picture. WHAT is one of ok, oom, host oom, refuse, crash, killed, silent, frozen, hang, undrawable, lost.
A picture without guidance is always drawn; one of 64x64 says that it was drawn compiled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from diffusion_runtime.generation.wire import encode, read_frame


def send(header: dict[str, Any], body: bytes = b"") -> None:
    sys.stdout.buffer.write(encode(header, body))
    sys.stdout.buffer.flush()


def fail(reason: str, rank: int, phase: str, **more: Any) -> None:
    send(
        {
            "kind": "failed",
            "reason": reason,
            "message": f"{reason} here",
            "phase": phase,
            "rank": rank,
            **more,
        }
    )


def misbehave(what: str, rank: int, phase: str) -> None:
    """Do what the script says; returns only for `ok`."""
    if what == "oom":
        fail("CudaOutOfMemory", rank, phase, bytesAsked=20, bytesFree=3)
    elif what == "host oom":
        fail("InsufficientHostMemory", rank, phase, bytesAsked=20)
    elif what == "frozen":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "refuse":
        fail("NoUsableGpu", rank, phase, final=True)
    elif what == "lost":
        fail("RankLost", rank, phase)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "silent":
        threading.Event().wait()  # alive, but never answers a ping again
    if what != "ok":
        os._exit(1)


def main() -> None:
    script = Path(sys.argv[1])
    start = read_frame(sys.stdin.buffer)
    assert start is not None
    rank = start.header["rank"]
    entry = step_of(script, rank, start.header["rendezvous"])
    mine = entry.get("rank") in (None, rank)
    send({"kind": "phase", "phase": "load", "step": 0})
    misbehave(entry.get("start", "ok") if mine else "ok", rank, "load")
    load = {"seconds": 1.0, "allocatedBytes": 100 + rank}
    send({"kind": "ready", "load": load, "versions": {"fake": "1"}})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        if frame.kind == "ping":
            send({"kind": "pong"})
        elif frame.kind == "draw":
            what = entry.get("draw" if mine else "others", "ok")
            request = frame.header["request"]
            draw(what if request["guidanceScale"] > 1 else "ok", rank, request)


def draw(what: str, rank: int, request: dict[str, Any]) -> None:
    send({"kind": "phase", "phase": "denoise", "step": 1})
    if what == "hang":  # answers pings, makes no progress
        return
    if what == "undrawable":
        send({"kind": "pictureFailed", "message": "prompt has too many tokens", "field": "prompt"})
        return
    misbehave(what, rank, "denoise")
    phases = {"denoise": {"seconds": 2.0, "allocatedBytes": 200 + rank}}
    body = f"picture {request['seed']}".encode() if rank == 0 else b""
    compiled = request["width"] == request["height"] == 64
    send({"kind": "done", "phases": phases, "secondsPerStep": 0.5, "compiled": compiled}, body)


def step_of(script: Path, rank: int, rendezvous: str) -> dict[str, Any]:
    """This group's entry: groups are told apart by their rendezvous and numbered by who came first."""
    seen = script.with_suffix(f".rank{rank}")
    with seen.open("a+") as log:
        log.write(rendezvous + "\n")
        log.seek(0)
        number = len(log.read().split()) - 1
    entries: list[dict[str, Any]] = json.loads(script.read_text())
    return entries[min(number, len(entries) - 1)]


if __name__ == "__main__":
    main()
