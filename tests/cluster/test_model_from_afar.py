"""Models of a hub and of an object store: looked at, fetched by a Job or by the pod, then served offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from cluster import model_source
from cluster.conftest import restrict
from cluster.node_volume import Folder, claimed
from cluster.room import Room, condition, manifest
from cluster.watching import Object
from engine.loopback_hub import BUCKET, COMMIT, PREFIX
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE

HUB = {"huggingFace": {"repo": "tiny/qwen"}}
STORE = {"s3": {"bucket": BUCKET, "prefix": PREFIX, "endpoint": model_source.ADDRESS}}
CACHE = Folder("/var/local/cache-of-a-test", "cache", "ReadWriteOnce")


@pytest.fixture(scope="module", autouse=True)
def source(cluster: Cluster) -> Iterator[None]:
    """Hub and store, for all tests of this file."""
    restrict(cluster, model_source.NAME)
    model_source.serve(Room(cluster, model_source.NAME), engine_image(cluster))
    yield
    cluster.kubectl("delete", "namespace", model_source.NAME, "--wait=false")


@pytest.fixture
def cache(room: Room) -> Iterator[str]:
    """A claim that the fetch may write to, on the real node."""
    room.cluster.provider.call("exec", room.cluster.folder.node, "mkdir", "-p", "-m", "0777", CACHE.path)
    with claimed(room, CACHE) as name:
        yield name


def engine_image(cluster: Cluster) -> str:
    """The image that the operator starts engines from."""
    listed = json.loads(cluster.kubectl("-n", OPERATOR_NAMESPACE, "get", "deployments", "-o", "json"))
    (image,) = {
        variable["value"]
        for deployment in listed["items"]
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "DIFFUSION_ENGINE_IMAGE"
    }
    return str(image)


def draws(room: Room, name: str) -> bool:
    with room.client(name) as client:
        (model,) = client.models.list().data
        answer = client.images.generate(model=model.id, prompt="a red circle", size="128x128")
    return base64.b64decode((answer.data or [])[0].b64_json or "").startswith(b"\x89PNG\r\n\x1a\n")


def variables(container: Object) -> set[str]:
    return {entry["name"] for entry in container.get("env", ())}


def test_a_hub_s_model_in_the_pod_s_own_volume(room: Room) -> None:
    room.apply(manifest("hub", model={"source": HUB}, parallelism={"gpusPerReplica": 1}))
    dd = room.await_ready("hub")
    assert (dd["status"]["plan"]["model"], condition(dd, "ModelCached")["status"]) == ("tiny/qwen", "True")
    (pod,) = room.pods("hub")
    (fetch,), (fetched,) = pod["spec"]["initContainers"], pod["status"]["initContainerStatuses"]
    assert fetch["command"][-2:] == ["--revision", COMMIT]
    assert fetched["state"]["terminated"]["exitCode"] == 0
    (engine,) = pod["spec"]["containers"]
    assert not variables(engine) & {"HF_ENDPOINT", "HF_TOKEN"}
    assert draws(room, "hub")


def test_a_store_s_model_on_a_claim(room: Room, cache: str) -> None:
    room.apply(
        manifest(
            "store",
            model={"source": STORE},
            parallelism={"gpusPerReplica": 1},
            cache={"pvc": {"claimName": cache}},
        )
    )
    dd = room.await_ready("store")
    assert condition(dd, "ModelCached")["status"] == "True"
    (pod,) = room.pods("store")
    assert "initContainers" not in pod["spec"]
    assert not variables(pod["spec"]["containers"][0]) & {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"}
    assert draws(room, "store")


def test_a_repository_that_is_not_there_is_named(room: Room) -> None:
    room.apply(manifest("lost", model={"source": {"huggingFace": {"repo": "tiny/nothing"}}}))
    stalled = condition(room.await_stalled("lost"), "Stalled")
    assert "tiny/nothing" in stalled["message"]
    assert room.pods("lost") == []
