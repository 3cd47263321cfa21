"""No second copy on the host: memory rises by the weights, whatever the residency."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODES = ("resident", "component", "layerwise")
CHUNKS_AND_SMALL_THINGS = 0.10


def test_host_memory_rises_by_the_weights_and_no_more(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    program = Path(__file__).with_name("peak_memory.py")
    ended = subprocess.run(
        [sys.executable, str(program), str(tmp_path), *MODES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    told = {line.split()[0]: int(line.split()[1]) for line in ended.stdout.splitlines()}
    assert told.keys() == {"weights", *MODES}, ended.stderr[-3000:]
    assert told["weights"] > 400e6
    for mode in MODES:
        assert told["weights"] * 0.98 < told[mode] < told["weights"] * (1 + CHUNKS_AND_SMALL_THINGS), told
