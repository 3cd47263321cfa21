"""A model on a claim is looked at, planned and served from there, though the image would know it as well.

The volume is a folder of the real node, filled through the node's container: no pod of the test writes there,
as none that may run in a restricted namespace could as root.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from cluster.node_volume import Folder, claimed
from cluster.room import Room, condition, manifest
from localcluster.settings import REPOSITORY

FILES = REPOSITORY / "runtime_image" / "models" / "demo"
WEIGHTS = Folder("/var/local/models-of-a-test", "weights", "ReadOnlyMany")


@pytest.fixture
def claim(room: Room) -> Iterator[str]:
    """A claim whose volume holds the demo model's files in the folder `tiny`."""
    node, provider = room.cluster.folder.node, room.cluster.provider
    provider.call("exec", node, "mkdir", "-p", WEIGHTS.path)
    provider.call("cp", FILES, f"{node}:{WEIGHTS.path}/tiny")
    provider.call("exec", node, "chmod", "-R", "a+rX", WEIGHTS.path)
    with claimed(room, WEIGHTS) as name:
        yield name


def test_a_picture_from_a_claim(room: Room, claim: str) -> None:
    source = {"pvc": {"claimName": claim, "path": "tiny"}}
    room.apply(manifest("kept", model={"source": source}, parallelism={"gpusPerReplica": 1}))
    dd = room.await_ready("kept")
    cached = condition(dd, "ModelCached")
    assert (cached["status"], cached["message"]) == ("True", f"the model is read from claim {claim}")
    assert dd["status"]["plan"]["model"] == f"pvc/{claim}/tiny"
    (pod,) = room.pods("kept")
    assert pod["spec"]["nodeName"] == room.cluster.folder.node
    volumes = {entry["name"]: entry for entry in pod["spec"]["volumes"]}
    assert volumes["model"]["persistentVolumeClaim"]["claimName"] == claim
    with room.client("kept") as client:
        (model,) = client.models.list().data
        answer = client.images.generate(model=model.id, prompt="a red circle", size="128x128")
    assert base64.b64decode((answer.data or [])[0].b64_json or "").startswith(b"\x89PNG\r\n\x1a\n")


def test_a_folder_that_is_not_there_is_named(room: Room, claim: str) -> None:
    room.apply(manifest("lost", model={"source": {"pvc": {"claimName": claim, "path": "nothing"}}}))
    stalled = condition(room.await_stalled("lost"), "Stalled")
    assert "nothing" in stalled["message"]
    assert room.pods("lost") == []
