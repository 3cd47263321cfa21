"""A saved cluster is read from one file; what does not belong there is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_operator.cli.errors import BadInput
from diffusion_operator.cli.snapshot import from_file

LIST = """
apiVersion: v1
kind: List
items:
- kind: Node
  metadata: {name: a, labels: {nvidia.com/gpu.product: NVIDIA-H200}}
  status: {allocatable: {nvidia.com/gpu: "8", memory: 64Gi}}
- kind: Pod
  metadata: {name: p, namespace: other}
  spec: {nodeName: a, containers: [{name: c, resources: {requests: {nvidia.com/gpu: "3"}}}]}
  status: {phase: Running}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_a_list_as_kubectl_prints_it(tmp_path: Path) -> None:
    capacity = from_file(written(tmp_path, LIST)).ledger().capacity(None, "nvidia.com/gpu")
    assert [(view.node.name, view.total, view.free) for view in capacity] == [("a", 8, 5)]


def test_documents_one_after_the_other(tmp_path: Path) -> None:
    text = "kind: Node\nmetadata: {name: a}\n---\n---\nkind: Node\nmetadata: {name: b}\n"
    assert [raw["metadata"]["name"] for raw in from_file(written(tmp_path, text)).nodes] == ["a", "b"]


def test_what_a_status_promises_counts(tmp_path: Path) -> None:
    ready = LIST.replace("64Gi}}", '64Gi}, conditions: [{type: Ready, status: "True"}]}')
    text = ready + (
        "- kind: DiffusionDeployment\n"
        "  metadata: {name: q, namespace: art}\n"
        "  status: {placements: [{group: h200, replicas: 1, gpusPerReplica: 4}]}\n"
    )
    (view,) = from_file(written(tmp_path, text)).ledger().capacity(None, "nvidia.com/gpu")
    assert (view.total, view.free) == (8, 1)


def test_foreign_deployments_are_left_out(tmp_path: Path) -> None:
    text = LIST + "- kind: Deployment\n  metadata: {name: web, namespace: other}\n"
    assert from_file(written(tmp_path, text)).deployments == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Service\nmetadata: {name: a}\n", "kind 'Service' has no place here"),
        ("", "holds no Node"),
        ("kind: Node\n", "an object without metadata"),
        ("- 1\n", "a list stands where a Kubernetes object should"),
        ("kind: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=r"cluster\.yaml") as caught:
        from_file(written(tmp_path, text))
    assert words in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.yaml cannot be read"):
        from_file(tmp_path / "nothing.yaml")


def test_an_amount_that_cannot_be_read_names_node_and_field(tmp_path: Path) -> None:
    snapshot = from_file(written(tmp_path, LIST.replace('"8"', '"many"')))
    with pytest.raises(BadInput, match=r"node a: status\.allocatable"):
        snapshot.ledger()
