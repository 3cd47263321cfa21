"""What a spec sets explicitly is what the pods run: sharded or streamed weights draw the same picture."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.conftest import SERVED
from cluster.room import Room, manifest

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("sharded", {"parallelism": {"gpusPerReplica": 2, "cfg": 2, "fsdp": True}}, "fsdp 2 + cfg 2"),
    (
        "streamed",
        {"parallelism": {"gpusPerReplica": 1}, "residency": {"transformer": "layerwise"}},
        "1 GPU",
    ),
]


def _picture(room: Room, name: str) -> np.ndarray:
    with room.client(name) as client:
        answer = client.images.generate(
            model="demo", prompt="a red circle", size="128x128", extra_body={"seed": 5}
        )
    assert answer.data is not None
    raw = base64.b64decode(answer.data[0].b64_json or "")
    return np.asarray(Image.open(BytesIO(raw)).convert("RGB")).astype(int)


AHEAD = [
    pytest.param(*case, id=case[0], marks=pytest.mark.ahead(manifest(case[0], **case[1]))) for case in CASES
]


@pytest.mark.parametrize(("name", "spec", "layout"), AHEAD)
def test_same_picture_explicitly(
    room: Room, served: Room, name: str, spec: dict[str, Any], layout: str
) -> None:
    plan = room.await_ready(name)["status"]["plan"]
    assert plan["layoutSummary"] == layout
    assert plan["residency"]["transformer"] == spec.get("residency", {}).get("transformer", "resident")
    assert plan["overrides"]
    assert np.abs(_picture(room, name) - _picture(served, SERVED)).max() <= 2
