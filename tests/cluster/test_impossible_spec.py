"""What can never work is Stalled with numbers, in one sentence, and pods of the spec before keep serving."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.conftest import SERVED
from cluster.room import Room, condition, manifest

CASES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("more-gpus-than-a-node", {"parallelism": {"gpusPerReplica": 32}}, "InsufficientGPUs", ["32", "16"]),
    ("no-such-node", {"hardware": {"productIn": ["NVIDIA-B200"]}}, "NoGPUNodes", ["B200"]),
    (
        "unknown-builtin",
        {"model": {"source": {"builtIn": {"name": "nothing"}}}},
        "UnknownModel",
        ["nothing", "demo"],
    ),
    ("no-code-yet", {"performance": {"calibrate": "always"}}, "NotSupportedYet", ["calibrate"]),
]


@pytest.mark.parametrize(("name", "spec", "reason", "words"), CASES, ids=[case[0] for case in CASES])
def test_stalled_in_one_sentence(
    room: Room, name: str, spec: dict[str, Any], reason: str, words: list[str]
) -> None:
    room.apply(manifest(name, **spec))
    stalled = condition(room.await_stalled(name), "Stalled")
    assert stalled["reason"] == reason
    for word in words:
        assert word in stalled["message"]
    assert "Traceback" not in stalled["message"]
    assert room.pods(name) == []


def test_previous_pods_keep_serving(served: Room) -> None:
    (before,) = served.pods(SERVED)
    served.kubectl(
        "patch", "dd", SERVED, "--type=merge", "-p", '{"spec":{"parallelism":{"gpusPerReplica":32}}}'
    )
    try:
        stalled = condition(served.await_stalled(SERVED), "Stalled")
        assert "32" in stalled["message"]
        assert "16" in stalled["message"]
        (during,) = served.pods(SERVED)
        assert during["metadata"]["uid"] == before["metadata"]["uid"]
        with served.client(SERVED) as client:
            answer = client.images.generate(model="demo", prompt="a star", size="128x128")
        assert answer.data
    finally:
        served.kubectl(
            "patch", "dd", SERVED, "--type=json", "-p", '[{"op":"remove","path":"/spec/parallelism"}]'
        )
        served.await_ready(SERVED)
    (after,) = served.pods(SERVED)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
