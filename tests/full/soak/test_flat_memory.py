"""200 requests in a row on two real ranks leave memory flat. Writes docs/results/engine-soak.json.

Of every kind that a user can send: sizes, guidance, several pictures, formats, wrong ones. Memory is compared
after the first 40, when every path has run, with the end.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from diffusion_runtime.planning.documents import Shape
from engine.memory_of import engine_bytes
from engine.plans import cpu_execution, plan_for
from engine.real_server import RealServer, serving

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "docs" / "results" / "engine-soak.json"
SOURCES = ("server", "generation", "loading", "parallel", "residency")
REQUESTS, SETTLED_AFTER, SAMPLE_EVERY = 200, 40, 20
MOST_GROWTH_BYTES = 8 * 2**20
PLAN = plan_for(
    cpu_execution(cfg=2, mode="component"),
    shapes=(Shape(width=64, height=64, steps=3), Shape(width=64, height=96, steps=3)),
)
KINDS: tuple[dict[str, Any], ...] = (
    {"prompt": "a red circle"},
    {"prompt": "a blue square on the left of a green circle", "size": "64x96"},
    {"prompt": "a star", "true_cfg_scale": 1},
    {"prompt": "a green triangle", "size": "48x48", "n": 2, "output_format": "jpeg"},
    {"prompt": "a " + "very " * 100 + "red square", "output_format": "webp"},
    {"prompt": "red " * 2000},  # too long: refused by the ranks
    {"prompt": "", "size": "64x64"},  # refused by the parent
)


def input_hash() -> str:
    """Over the engine's code and this test."""
    digest = hashlib.sha256()
    package = REPOSITORY / "runtime_image/src/diffusion_runtime"
    files = [path for folder in SOURCES for path in (package / folder).rglob("*.py")]
    for path in sorted([*files, Path(__file__)]):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.timeout(3600)
def test_memory_stays_flat(tmp_path: Path) -> None:
    started = monotonic()
    with serving(PLAN, tmp_path) as server:
        samples = [sample(server, 0)]
        for number in range(1, REQUESTS + 1):
            answer = server.post(**KINDS[number % len(KINDS)], seed=number)
            assert answer.status_code in (200, 400), answer.text
            if number % SAMPLE_EVERY == 0:
                samples.append(sample(server, number))
        restarts = server.report()["rankGroupRestarts"]
    settled = next(entry for entry in samples if entry["requests"] == SETTLED_AFTER)
    growth = {name: samples[-1][name] - settled[name] for name in settled if name != "requests"}
    result = {
        "inputHash": input_hash(),
        "requests": REQUESTS,
        "ranks": 2,
        "rankGroupRestarts": restarts,
        "seconds": round(monotonic() - started, 1),
        "growthBytesAfter40": growth,
        "mostGrowthBytes": MOST_GROWTH_BYTES,
        "residentAnonymousBytes": samples,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    assert restarts == 0
    assert max(growth.values()) <= MOST_GROWTH_BYTES


def sample(server: RealServer, requests: int) -> dict[str, int]:
    return {"requests": requests, **engine_bytes(server)}
