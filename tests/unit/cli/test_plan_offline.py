"""`kubectl diffusion plan` says what the operator would do, from a manifest and a saved cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffusion_operator.cli.main import main
from unit.cli.dds import DEMO

NODES = """
kind: List
items:
- kind: Node
  metadata:
    name: gpu-1
    labels: {nvidia.com/gpu.product: NVIDIA-H200, nvidia.com/gpu.memory: "143771", nvidia.com/gpu.count: "4"}
  status:
    allocatable: {nvidia.com/gpu: "4", memory: 1024Gi, cpu: "64"}
    conditions: [{type: Ready, status: "True"}]
"""


@pytest.fixture
def nodes(tmp_path: Path) -> str:
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    return str(path)


def manifest(folder: Path, text: str = DEMO) -> str:
    path = folder / "dd.yaml"
    path.write_text(text)
    return str(path)


def test_a_plan_in_words(tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", manifest(tmp_path), "--nodes", nodes]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("demo  namespace default")
    assert text.splitlines()[0].endswith("● Would run")
    assert "demo on" in text
    assert "1 of 1 replica placed" in text
    for heading in ("Decision", "Memory", "Why"):
        assert heading in text
    assert "transformer" in text
    assert "on the CPU, as performance.device asks" in text


def test_a_plan_for_programs(tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", manifest(tmp_path), "--nodes", nodes, "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["refusal"] is None
    (group,) = answer["groups"]
    assert group["replicas"] == 1
    assert group["product"] == "NVIDIA-H200"
    assert group["plan"]["device"] == "cpu"
    assert len(group["plan"]["hash"]) == 12


def test_the_namespace_flag_counts_where_the_manifest_names_none(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", manifest(tmp_path), "--nodes", nodes, "-n", "art"]) == 0
    assert "namespace art" in capsys.readouterr().out


def test_more_replicas_than_gpus_run_in_part(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DEMO + "  replicas: 3\n  parallelism: {gpusPerReplica: 2}\n"
    assert main(["plan", "-f", manifest(tmp_path, text), "--nodes", nodes]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("◌ Would wait")
    assert "2 of 3 replicas placed" in out


def test_a_hub_model_is_planned_from_built_in_facts_and_one_on_a_claim_not_before_it_is_applied(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DEMO.replace("builtIn: {name: demo}", "huggingFace: {repo: Qwen/Qwen-Image}").replace(
        "cpu", "cuda"
    )
    assert main(["plan", "-f", manifest(tmp_path, text + "  suspend: true\n"), "--nodes", nodes]) == 0
    planned = capsys.readouterr().out
    assert planned.splitlines()[0].endswith("○ Suspended")
    assert "no pod runs while it is suspended" in planned
    assert main(["plan", "-f", manifest(tmp_path, text), "--nodes", nodes]) == 0
    assert "Qwen/Qwen-Image" in capsys.readouterr().out
    on_a_claim = text.replace("huggingFace: {repo: Qwen/Qwen-Image}", "pvc: {claimName: weights}")
    assert main(["plan", "-f", manifest(tmp_path, on_a_claim), "--nodes", nodes]) == 3
    assert "the facts of model.source.pvc are read in the cluster" in capsys.readouterr().out


def test_more_gpus_than_any_node_has_is_no_plan(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DEMO + "  parallelism: {gpusPerReplica: 8}\n"
    code = main(["plan", "-f", manifest(tmp_path, text), "--nodes", nodes])
    out = capsys.readouterr().out
    assert code in (2, 3)
    assert out.splitlines()[0].endswith("✗ Would be refused")
    assert "8" in out.splitlines()[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEMO.replace("name: demo}}", "name: dino}}"), "dino"),
        (DEMO.replace("device: cpu", "device: tpu"), "spec.performance.device"),
        (DEMO.replace("kind: DiffusionDeployment", "kind: Service"), "0 objects of kind DiffusionDeployment"),
        (f"{DEMO}---\n{DEMO}", "2 objects of kind DiffusionDeployment"),
        (DEMO.replace("v1alpha1", "v9"), "this version knows diffusion-operator.io/v1alpha1"),
        (DEMO.replace("metadata: {name: demo}", ""), "metadata is missing"),
        ("kind: [", "is not YAML"),
    ],
)
def test_bad_input_ends_with_two_and_names_it(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    assert main(["plan", "-f", manifest(tmp_path, text), "--nodes", nodes]) == 2
    printed = capsys.readouterr()
    assert words in printed.err + printed.out
    assert "Traceback" not in printed.err


def test_the_same_input_gives_the_same_text(
    tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "-f", manifest(tmp_path), "--nodes", nodes]
    main(arguments)
    first = capsys.readouterr().out
    main(arguments)
    assert capsys.readouterr().out == first


OPERATOR = """
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: diffusion-operator, namespace: system}
  spec:
    template:
      spec:
        containers:
        - name: operator
          env:
          - {name: DIFFUSION_ENGINE_IMAGE, value: "engine:1"}
          - name: DIFFUSION_NODE_POOLS
            value: '[{"name": "burst", "product": "NVIDIA-L4", "gpusPerNode": 8, "maxNodes": 1,
                      "nodeSelector": {"pool": "burst"}}]'
"""
QUOTA = """
- kind: ResourceQuota
  metadata: {name: team, namespace: default}
  spec: {hard: {requests.nvidia.com/gpu: "1"}}
  status: {used: {requests.nvidia.com/gpu: "1"}}
"""
CLAIM = """
- kind: PersistentVolumeClaim
  metadata: {name: models, namespace: default}
  spec: {volumeName: disk, accessModes: [ReadWriteMany]}
- kind: PersistentVolume
  metadata: {name: disk}
  spec:
    nodeAffinity:
      required:
        nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [far]}]}]
"""


def planned(folder: Path, more: str, dd: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    path = folder / "nodes.yaml"
    path.write_text(NODES + more.lstrip("\n"))
    main(["plan", "-f", manifest(folder, dd), "--nodes", str(path), "-o", "json"])
    return dict(json.loads(capsys.readouterr().out))


def test_the_quota_of_the_namespace_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = planned(tmp_path, QUOTA, DEMO, capsys)["refusal"]
    assert refusal["reason"] == "QuotaExceeded"
    assert "quota team" in refusal["message"]


def test_the_operators_node_pools_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eight = DEMO + "  parallelism: {gpusPerReplica: 8}\n"
    assert planned(tmp_path, "", eight, capsys)["refusal"]["reason"] == "InsufficientGPUs"
    answer = planned(tmp_path, OPERATOR, eight, capsys)
    assert answer["refusal"]["reason"] == "WaitingForNodes"
    assert [group["product"] for group in answer["groups"]] == ["NVIDIA-L4"]


def test_a_volume_out_of_reach_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = DEMO.replace("builtIn: {name: demo}", "huggingFace: {repo: Qwen/Qwen-Image}")
    assert hub != DEMO
    cached = hub + "  cache: {pvc: {claimName: models}}\n"
    other = CLAIM.replace("name: models", "name: other")
    assert planned(tmp_path, other, cached, capsys)["refusal"]["reason"] == "ClaimNotFound"
    assert "cannot mount claim models" in planned(tmp_path, CLAIM, cached, capsys)["refusal"]["message"]
