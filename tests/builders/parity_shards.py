"""The parity suite in pieces, for machines with many cores: which cases a piece draws, and the merge.

`DIFFUSION_PARITY_SHARD=3/16` makes the suite draw the third of 16 pieces into a file of its own below
docs/results/parity-parts (or the folder DIFFUSION_PARITY_PARTS), so that pieces can run at the same time and
on several machines. `python -m builders.parity_shards 64 --jobs 20` runs 64 pieces, 20 at a time;
`python -m builders.parity_shards merge` makes the result file and the tables of what the pieces have drawn.
Both go on where they were cut off.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from builders.parity_cases import Kind, claims, every_kind, sibling_kinds
from builders.parity_families import PARITY, write_folder
from builders.parity_result import (
    REPOSITORY,
    parts_folder,
    read_cases,
    write_cases,
    write_tables,
)

SHARD = "DIFFUSION_PARITY_SHARD"
COMPILED_WEIGHT = 10
"""Seconds of a compiled case over those of an eager one, as first measured on the CPU."""
Named = tuple[str, Kind]


@dataclass(frozen=True)
class Shard:
    """Piece `number` (from 1) of `of`."""

    number: int
    of: int

    @property
    def file(self) -> Path:
        """Where it keeps what it has drawn."""
        return parts_folder() / f"{self.number}-of-{self.of}.json"

    def chosen(self, cases: Sequence[Named]) -> list[Named]:
        """Its share by weight. Neighbours stay together: they share a process group and a reference."""
        total, before, chosen = sum(_weight(kind) for _, kind in cases), 0, []
        for name, kind in cases:
            if before * self.of // total == self.number - 1:
                chosen.append((name, kind))
            before += _weight(kind)
        return chosen


def shard_wanted() -> Shard | None:
    """Of the environment; None: the whole suite. ValueError when it is not like 3/16."""
    words = os.environ.get(SHARD)
    if not words:
        return None
    number, slash, of = words.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f"{SHARD}={words} is no piece; 3/16 is the third of 16.")
    return Shard(int(number), int(of))


def every_case(pipelines: Path) -> list[Named]:
    """The whole matrix, cases of one process group together; small ones are written below `pipelines`."""
    return [
        (name, kind)
        for name in PARITY
        for kind in sorted(kinds_of(name, write_folder(name, pipelines)), key=lambda kind: kind.layout.ranks)
    ]


def kinds_of(name: str, folder: Path) -> list[Kind]:
    """What parity draws of one small pipeline."""
    kinds = every_kind if PARITY[name].like is None else sibling_kinds
    return list(kinds(claims(folder)))


def finish(pipelines: Path) -> None:
    """Write the tables. AssertionError when a case is missing, left over, or was compiled too late."""
    results = read_cases()
    names = {f"{name}: {kind.name}" for name, kind in every_case(pipelines)}
    missing, over = sorted(names - results.keys()), sorted(results.keys() - names)
    assert not missing, f"{len(missing)} of {len(names)} cases were not drawn, such as {missing[0]}"
    assert not over, f"left over: {over}"
    assert not [name for name, case in results.items() if case.get("compiledLate")]
    write_tables(results)


def merge() -> int:
    """1 when cases are missing; what there is has been kept then."""
    results = read_cases()
    for part in sorted(parts_folder().glob("*-of-*.json")):
        found = read_cases(part)
        if not found:
            _say(f"{part.name} is of other sources and is left out")
        results |= found
    write_cases(results)
    failed = [name for name, case in results.items() if not case["passed"]]
    _say("\n".join([f"{len(results)} cases, {len(failed)} failed", *failed]))
    with tempfile.TemporaryDirectory() as folder:
        try:
            finish(Path(folder))
        except AssertionError as unfinished:
            _say(str(unfinished))
            return 1
    return 0


def run(pieces: int, jobs: int) -> int:
    """Every piece in a pytest of its own, `jobs` at a time. 1 when one failed."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(partial(_run_piece, pieces, Path(folder)), range(1, pieces + 1)))
    return int(any(codes))


def _run_piece(pieces: int, folder: Path, number: int) -> int:
    base = folder / str(number)  # pytest's own numbering of folders is not made for many at once
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={base}"]
    piece = f"{number}/{pieces}"
    environment = os.environ | {SHARD: piece, "OMP_NUM_THREADS": "1"}
    suite = subprocess.run(
        [*command, "tests/full/parity"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = suite.stdout.strip().splitlines() or [""]
    _say(f"{piece}: {lines[-1]}" if suite.returncode == 0 else f"{piece}:\n{suite.stdout[-4000:]}")
    return suite.returncode


def main() -> int:
    """`merge`, or a number of pieces to run and then to merge."""
    parser = argparse.ArgumentParser(prog="python -m builders.parity_shards", description=__doc__)
    parser.add_argument("pieces", help="how many to run, or: merge")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 3), metavar="N")
    args = parser.parse_args()
    if args.pieces == "merge":
        return merge()
    failed = run(int(args.pieces), args.jobs)
    return merge() or failed


def _weight(kind: Kind) -> int:
    return (1 + kind.layout.ranks) * (COMPILED_WEIGHT if kind.compiled else 1)


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
