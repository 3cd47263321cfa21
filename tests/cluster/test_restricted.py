"""Operator and engines run where Pod Security `restricted` is enforced, and an engine's key is asked for.

Every namespace of these tests enforces it; this file proves that it bites.
"""

from __future__ import annotations

import openai
import pytest

from cluster.conftest import RESTRICTED
from cluster.room import Room, manifest
from localcluster.portforward import forwarded
from localcluster.settings import OPERATOR_NAMESPACE
from localcluster.shell import CommandError

PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "root"},
    "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
}
KEYS = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "keys"},
    "stringData": {"demo": "sk-right"},
}

# Says of each rank process whether the key is in its environment.
RANKS = """
from pathlib import Path
rank = b".".join([b"generation", b"rank"])
for process in Path("/proc").glob("[0-9]*"):
    if rank in (process / "cmdline").read_bytes():
        print("key" if b"DIFFUSION_API_KEY" in (process / "environ").read_bytes() else "clean")
"""


def pod_ranks(room: Room, name: str) -> int:
    """One rank for each GPU of a pod."""
    return int(room.get(name)["status"]["plan"]["gpusPerReplica"])


def test_other_pods_are_refused_here(served: Room) -> None:
    with pytest.raises(CommandError, match='violates PodSecurity "restricted'):
        served.apply(PRIVILEGED)
    for namespace in (served.namespace, OPERATOR_NAMESPACE):
        labels = served.cluster.kubectl("get", "namespace", namespace, "-o", "jsonpath={.metadata.labels}")
        assert f'"{RESTRICTED[0]}":"{RESTRICTED[1]}"' in labels


@pytest.mark.ahead(KEYS, manifest("locked", service={"apiKeySecretRef": {"name": "keys", "key": "demo"}}))
def test_the_key_opens_the_service_and_nothing_else_does(room: Room) -> None:
    room.await_ready("locked")
    (policy,) = room.kubectl("get", "networkpolicy", "-o", "name").split()
    assert policy.endswith("/locked")
    with forwarded(room.cluster, "svc/locked", 80, room.namespace) as url:

        def draw(key: str) -> int:
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120) as client:
                answer = client.images.generate(model="demo", prompt="a red circle", size="64x64")
            return len((answer.data or [])[0].b64_json or "")

        assert draw("sk-right") > 100
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided"):
            draw("sk-wrong")
    (pod,) = room.pods("locked")
    words = ("exec", pod["metadata"]["name"], "--", "python", "-c", RANKS)
    assert room.kubectl(*words).split() == ["clean"] * pod_ranks(room, "locked")


def test_engines_get_no_token_and_the_operator_may_not_read_secrets(served: Room) -> None:
    (pod,) = served.pods("served")
    mounts = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
    assert not [path for path in mounts if "serviceaccount" in path]
    user = f"system:serviceaccount:{OPERATOR_NAMESPACE}:diffusion-operator"
    for verb in ("get", "list", "watch", "create", "update", "patch", "delete"):
        with pytest.raises(CommandError, match="no"):
            served.kubectl("auth", "can-i", verb, "secrets", "--as", user)
