"""A DiffusionDeployment gives its author nothing that pods would not: the API server asks with their rights.

The users are impersonated, so the API server judges them as it would judge real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.room import Room, manifest
from localcluster.shell import CommandError

WRITES = ["get", "list", "create", "update", "patch"]
DDS = {"apiGroups": ["diffusion-operator.io"], "resources": ["diffusiondeployments"], "verbs": WRITES}
SCALE = {"apiGroups": ["diffusion-operator.io"], "resources": ["diffusiondeployments/scale"], "verbs": WRITES}
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
MOST_SECRETS = 26


def secrets(*names: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    return rule | ({"resourceNames": list(names)} if names else {})


USERS: dict[str, list[dict[str, Any]]] = {
    "no-pods": [DDS, SCALE],
    "no-secrets": [DDS, PODS],
    "one-secret": [DDS, PODS, secrets("mine")],
    "many-secrets": [DDS, PODS, secrets(*(f"s{number}" for number in range(32)))],
    "all-secrets": [DDS, PODS, secrets()],
}


@pytest.fixture(scope="module")
def shared(cluster: Any) -> Iterator[Room]:
    """A namespace with a role for each user."""
    room = Room(cluster, "author-rights")
    room.cluster.kubectl("create", "namespace", room.namespace)
    for user, rules in USERS.items():
        metadata = {"name": user}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata}
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        binding = role | {"kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
        room.apply(role | {"rules": rules}, binding)
    subject = {"kind": "User", "name": "editor", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": "edit", "apiGroup": "rbac.authorization.k8s.io"}
    api = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "editor"},
    }
    room.apply(api | {"roleRef": reference, "subjects": [subject]})
    yield room
    room.cluster.kubectl("delete", "namespace", room.namespace, "--wait=false")


def send(room: Room, user: str, name: str, **spec: Any) -> str:
    """Create or change one, suspended: nothing here needs a pod."""
    document = json.dumps(manifest(name, suspend=True, **spec))
    return room.kubectl("--as", user, "apply", "-f", "-", stdin=document)


def key(name: str) -> dict[str, Any]:
    return {"service": {"apiKeySecretRef": {"name": name, "key": "key"}}}


def env(*names: str) -> dict[str, Any]:
    entries = [
        {"name": f"V{index}", "secretKeyRef": {"name": name, "key": "k"}} for index, name in enumerate(names)
    ]
    return {"pod": {"env": entries}}


def test_who_may_not_create_pods_gets_none(shared: Room) -> None:
    words = (
        "spec: a DiffusionDeployment runs pods, and no-pods may not create pods in namespace author-rights"
    )
    with pytest.raises(CommandError, match=words):
        send(shared, "no-pods", "by-no-pods")


@pytest.mark.parametrize(
    ("user", "spec", "path", "secret"),
    [
        ("no-secrets", key("mine"), "spec.service.apiKeySecretRef.name", "mine"),
        ("one-secret", key("theirs"), "spec.service.apiKeySecretRef.name", "theirs"),
        ("one-secret", env("mine", "theirs"), r"spec.pod.env\[1\].secretKeyRef.name", "theirs"),
        (
            "one-secret",
            {"pod": {"imagePullSecrets": [{"name": "theirs"}]}},
            r"spec.pod.imagePullSecrets\[0\].name",
            "theirs",
        ),
        (
            "one-secret",
            {"model": {"source": {"s3": {"bucket": "abc", "prefix": "p", "secretRef": {"name": "theirs"}}}}},
            "spec.model.source.s3.secretRef.name",
            "theirs",
        ),
    ],
)
def test_a_secret_that_the_author_may_not_read_is_refused_by_field(
    shared: Room, user: str, spec: dict[str, Any], path: str, secret: str
) -> None:
    with pytest.raises(CommandError, match=f"{path}: {user} may not get Secret {secret} in namespace"):
        send(shared, user, "refused", **spec)


@pytest.mark.parametrize(
    ("user", "spec"),
    [
        ("no-secrets", {}),
        ("one-secret", key("mine") | env("mine", "mine", "mine")),
        ("many-secrets", env(*(f"s{number}" for number in range(MOST_SECRETS)))),
        ("editor", key("any")),  # through the role edit that Kubernetes comes with
        ("all-secrets", env(*(f"s{number}" for number in range(32)))),
    ],
)
def test_what_the_author_may_do_is_let_through(shared: Room, user: str, spec: dict[str, Any]) -> None:
    assert "created" in send(shared, user, f"by-{user}", **spec)


def test_labels_scale_and_status_need_no_pods(shared: Room) -> None:
    send(shared, "no-secrets", "touched")
    shared.kubectl("--as", "no-pods", "label", "dd", "touched", "team=a")
    shared.kubectl("--as", "no-pods", "scale", "dd", "touched", "--replicas=2")
    dd = shared.await_dd(
        "touched", lambda dd: "plan" in dd.get("status", {}), "has a plan"
    )  # the operator's write
    assert dd["metadata"]["labels"] == {"team": "a"}
    with pytest.raises(CommandError, match="no-pods may not create pods"):
        send(shared, "no-pods", "touched", replicas=3)
