"""Nodes whose driver is too old for the engine's CUDA are no capacity, and the refusal says so."""

from __future__ import annotations

import re
import tomllib

import pytest

from diffusion_operator.inventory.hardware import driver_version, parse_driver, too_old
from diffusion_operator.inventory.objects import parse_node
from diffusion_operator.placement.groups import Terms
from diffusion_operator.settings import MINIMUM_DRIVER
from localcluster.settings import REPOSITORY
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

# The oldest driver branch that runs every minor version of a CUDA major version (CUDA compatibility guide).
OLDEST_DRIVER_OF_CUDA = {12: "525", 13: "580"}
NEW, OLD = "nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver"


def node(name: str, major: str, prefix: str = NEW) -> NodeBuilder:
    return NodeBuilder(name).gpus(2).label(f"{prefix}.major", major).label(f"{prefix}.minor", "95")


def test_an_old_driver_is_refused_with_both_versions() -> None:
    found = Scene([node("n", "550")], terms=Terms(least_driver=(580,))).decide(Dd()).refusal
    assert found is not None
    assert (found.reason, found.stalled) == ("DriverTooOld", True)
    assert "n has driver 550.95, but the engine needs 580" in found.message


def test_the_other_nodes_are_used() -> None:
    scene = Scene([node("old", "550"), node("new", "580")], terms=Terms(least_driver=(580,)))
    (group,) = scene.decide(Dd().gpus_per_replica(2).replicas(1)).groups
    assert group.replicas == 1
    waits = scene.decide(Dd().gpus_per_replica(2).replicas(2)).refusal
    assert waits is not None


def test_nodes_without_the_label_and_cpu_deployments_are_not_asked() -> None:
    terms = Terms(least_driver=(580,))
    assert Scene([NodeBuilder("n").gpus(1)], terms=terms).decide(Dd()).refusal is None
    cpu = Dd().set("performance.device", "cpu")
    assert Scene([node("n", "470")], terms=terms).decide(cpu).refusal is None


def test_both_spellings_of_the_labels_are_read() -> None:
    labelled = node("n", "535", OLD).label(f"{OLD}.rev", "3")
    assert driver_version(parse_node(labelled.build())) == (535, 95, 3)
    assert driver_version(parse_node(node("n", "580").build())) == (580, 95)
    assert driver_version(parse_node(NodeBuilder("n").gpus(1).build())) is None


@pytest.mark.parametrize(
    ("driver", "least", "old"),
    [((580, 65), "580", False), ((570,), "580", True), ((580,), "580.65", False), ((580, 1), "580.65", True)],
)
def test_comparison(driver: tuple[int, ...], least: str, old: bool) -> None:
    assert too_old(driver, parse_driver(least)) is old


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="write for example 580"):
        parse_driver("r580")


def test_the_built_in_minimum_is_that_of_the_cuda_which_the_locked_torch_brings() -> None:
    """An update of torch to another CUDA must not leave the minimum behind."""
    lock = tomllib.loads((REPOSITORY / "uv.lock").read_text(encoding="utf-8"))["package"]
    (torch,) = [package for package in lock if package["name"] == "torch"]
    needed = {dependency["name"] for dependency in torch["dependencies"]}
    versions = {package["name"]: package["version"] for package in lock}
    major = int(versions["cuda-toolkit"].split(".")[0])
    assert "cuda-toolkit" in needed
    assert {int(found[1]) for name in needed if (found := re.search(r"-cu(\d+)$", name))} == {major}
    assert OLDEST_DRIVER_OF_CUDA[major] == MINIMUM_DRIVER
    for page in ("charts/diffusion-operator/values.yaml", "docs/how-to/rollouts.md"):
        words = (REPOSITORY / page).read_text(encoding="utf-8")
        assert f"CUDA {major}" in words
        assert MINIMUM_DRIVER in words
