"""Runs pytest several times at once and adds up what they say: `side_by_side LANE... -- PYTEST_ARGUMENTS`.

A lane is a comma-separated list of folders. The last lane is shown as it runs; the ones before it run behind
it with lower priority, and their output is shown whole at the end. It is for tests that mostly wait beside
tests that mostly compute, and no test may need to know which others run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PYTEST = (sys.executable, "-m", "pytest")
BEHIND_NICENESS = 10
NO_TESTS_STATUS = 5
CLOSING = re.compile(r"^.*\b(?:passed|failed|errors?|skipped|no tests ran)\b.* in [\d.]+s.*$", re.MULTILINE)
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|xfailed|xpassed|error|warning)")


@dataclass
class Lane:
    """One pytest process and what it has printed."""

    folders: Sequence[str]
    process: subprocess.Popen[bytes]
    printed: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return self.printed.decode(errors="replace")


def start(folders: Sequence[str], arguments: Sequence[str], niceness: int = 0) -> Lane:
    """Begin one lane; each has a cache folder of its own, so that neither forgets the other's failures."""
    cache = f"cache_dir=.pytest_cache/{folders[-1].replace('/', '-')}"
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    command = [*PYTEST, *folders, "-o", cache, *colour, *arguments]
    before = ["nice", f"-n{niceness}"] if niceness else []
    return Lane(
        folders, subprocess.Popen([*before, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    )


def follow(lane: Lane, shown: bool) -> None:
    """Read what it prints until it ends."""
    assert lane.process.stdout is not None
    with lane.process.stdout as pipe:
        while chunk := os.read(pipe.fileno(), 65536):
            lane.printed += chunk
            if shown:
                show(chunk)
    lane.process.wait()


def show(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()


def counts(text: str) -> Counter[str]:
    """What pytest's closing line counts, by outcome; nothing when it never came to one."""
    lines = CLOSING.findall(text)
    found: Counter[str] = Counter()
    for number, outcome in COUNTED.findall(lines[-1]) if lines else ():
        found[outcome] += int(number)
    return found


def closing_line(lanes: Sequence[Lane], seconds: float) -> str:
    """As pytest's own: outcomes of all lanes and the time that they took together."""
    total = sum((counts(lane.text) for lane in lanes), Counter[str]())
    broken = sum(
        1 for lane in lanes if lane.process.returncode not in (0, NO_TESTS_STATUS) and not counts(lane.text)
    )
    total["error"] += broken  # it ended without a word, so something is wrong
    order = ("failed", "error", "passed", "skipped", "xfailed", "xpassed", "warning")
    words = [f"{total[outcome]} {outcome}" for outcome in order if total[outcome]]
    return f"{', '.join(words) or 'no tests ran'} in {seconds:.1f}s"


def run(lanes: Sequence[Sequence[str]], arguments: Sequence[str]) -> int:
    """The first status that is not 0; a lane in which the arguments leave no test is fine beside others."""
    started_s = time.monotonic()
    behind = [start(folders, arguments, BEHIND_NICENESS) for folders in lanes[:-1]]
    readers = [threading.Thread(target=follow, args=(lane, False)) for lane in behind]
    for reader in readers:
        reader.start()
    front = start(lanes[-1], arguments)
    try:
        follow(front, shown=True)
    finally:
        for lane, reader in zip(behind, readers, strict=True):
            reader.join()
            show(f"\n{' '.join(lane.folders)}:\n".encode() + bytes(lane.printed))
    every = [*behind, front]
    print(closing_line(every, time.monotonic() - started_s), flush=True)
    statuses = [lane.process.returncode for lane in every]
    ran = [status for status in statuses if status != NO_TESTS_STATUS] or [NO_TESTS_STATUS]
    return next((status for status in ran if status), 0)


def main(words: Sequence[str]) -> int:
    """The lanes and, behind `--`, pytest's arguments."""
    split = words.index("--") if "--" in words else len(words)
    return run([lane.split(",") for lane in words[:split]], words[split + 1 :])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the lanes have got it too and have cleaned up
        sys.exit(130)
