"""Resident memory of the processes of one engine, for the tests that look for leaks."""

from __future__ import annotations

from pathlib import Path

from engine.real_server import RealServer


def resident_bytes(process_id: int) -> int:
    """Anonymous memory that a process holds now: what a leak would grow."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {process_id} shows no RssAnon")


def engine_bytes(server: RealServer) -> dict[str, int]:
    """By process: the parent, then its ranks."""
    ranks = {f"rank{index}": resident_bytes(pid) for index, pid in enumerate(server.rank_ids())}
    return {"parent": resident_bytes(server.process.pid)} | ranks
