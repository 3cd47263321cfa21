"""A ResourceQuota is asked before pods are promised, and the refusal says its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.inventory.quota import PodTraits, counts_pod, parse_quota
from diffusion_operator.inventory.requests import BadObject
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

GPU_KEY = "requests.nvidia.com/gpu"


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "team", "namespace": "default"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or {}},
    }


def scene(*quotas: dict[str, Any], gpus: int = 8) -> Scene:
    return Scene([NodeBuilder("n").gpus(gpus)], quotas=list(quotas))


def test_replicas_stop_at_the_quota_and_the_rest_waits_with_its_numbers() -> None:
    decision = scene(quota({GPU_KEY: "4"}, {GPU_KEY: "1"})).decide(Dd().gpus_per_replica(1).replicas(5))
    assert [group.replicas for group in decision.groups] == [3]
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.stalled) == ("QuotaExceeded", False)
    assert decision.refusal.message == (
        "2 of 5 replicas wait: needs 1 GPU and 1 pod each; "
        "quota team: requests.nvidia.com/gpu 4, of which others use 1."
    )


def test_pods_are_counted_too() -> None:
    decision = scene(quota({"pods": "2"})).decide(Dd().gpus_per_replica(1).replicas(3))
    assert [group.replicas for group in decision.groups] == [2]
    assert decision.refusal is not None
    assert "quota team: pods 2, of which others use 0" in decision.refusal.message


def test_a_planned_count_stays_within_the_quota() -> None:
    free = scene().decide(Dd()).groups[0].plan.gpus_per_replica
    bounded = scene(quota({GPU_KEY: "1"})).decide(Dd()).groups[0].plan.gpus_per_replica
    assert (free >= 1, bounded) == (True, 1)


def test_a_quota_below_one_replica_stalls() -> None:
    decision = scene(quota({GPU_KEY: "1"})).decide(Dd().gpus_per_replica(2))
    assert decision.groups == ()
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.stalled) == ("QuotaExceeded", True)
    used_up = scene(quota({GPU_KEY: "2"}, {GPU_KEY: "2"})).decide(Dd().gpus_per_replica(2)).refusal
    assert used_up is not None
    assert (used_up.reason, used_up.stalled) == ("QuotaExceeded", False)


def test_what_runs_counts_as_its_own_and_leaves_no_room_for_a_surge_pod() -> None:
    dd = Dd().gpus_per_replica(1).replicas(2)
    world = scene()
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    world.quotas = [quota({GPU_KEY: "2"}, {GPU_KEY: "2"})]
    decision = world.decide(dd)
    assert decision.refusal is None
    assert decision.groups[0].replicas == 2
    assert decision.groups[0].rollout.max_surge == 0


def test_a_lowered_quota_stops_nothing_that_runs() -> None:
    dd = Dd().gpus_per_replica(1).replicas(2)
    world = scene()
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    world.quotas = [quota({GPU_KEY: "1"}, {GPU_KEY: "2"})]
    assert world.decide(dd).groups[0].replicas == 2


def test_replicas_whose_pods_the_quota_refused_are_not_called_running() -> None:
    dd = Dd().gpus_per_replica(1).replicas(3)
    world = scene()
    world.apply(dd, world.decide(dd))
    world.quotas = [quota({GPU_KEY: "2"})]
    decision = world.decide(dd)
    assert [group.replicas for group in decision.groups] == [2]
    assert decision.refusal is not None
    assert decision.refusal.message.startswith("1 of 3 replicas waits")


def test_another_deployment_that_has_no_pods_yet_is_counted() -> None:
    world = scene(quota({GPU_KEY: "3"}))
    one = Dd("one").gpus_per_replica(1).replicas(2)
    world.apply(one, world.decide(one))
    two = world.decide(Dd("two").gpus_per_replica(1).replicas(2))
    assert [group.replicas for group in two.groups] == [1]


def test_quotas_of_other_namespaces_do_not_matter() -> None:
    other = quota({GPU_KEY: "0"})
    other["metadata"]["namespace"] = "elsewhere"
    assert scene(other).decide(Dd()).refusal is None


@pytest.mark.parametrize(
    ("spec", "traits", "counts"),
    [
        ({}, PodTraits(), True),
        ({"scopes": ["NotTerminating"]}, PodTraits(), True),
        ({"scopes": ["Terminating"]}, PodTraits(), False),
        ({"scopes": ["BestEffort"]}, PodTraits(best_effort=False), False),
        ({"scopes": ["NotBestEffort"]}, PodTraits(best_effort=False), True),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, PodTraits(), False),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, PodTraits("high"), True),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, PodTraits("high"), False),
    ],
)  # fmt: skip
def test_scopes(spec: dict[str, Any], traits: PodTraits, counts: bool) -> None:
    assert counts_pod(parse_quota(quota({"pods": "1"}, **spec)), traits) is counts


def test_an_unreadable_quota_is_named() -> None:
    with pytest.raises(BadObject, match=r"resourcequota default/team: spec\.hard\.pods: 'many'"):
        parse_quota(quota({"pods": "many"}))


def test_keys_that_count_other_things_are_left_out() -> None:
    assert parse_quota(quota({"requests.cpu": "500m", "count/secrets": "1", "pods": "3"})).hard == {"pods": 3}
