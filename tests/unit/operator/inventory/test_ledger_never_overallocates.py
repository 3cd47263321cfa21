"""Property: reservations never take a GPU that a node has not got free, whatever the cluster looks like."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.inventory.claims import pack
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod

GPU = "nvidia.com/gpu"
NAMES = ("n0", "n1", "n2")
OWNERS = ("x/a", "x/b", "x/c")

nodes = st.lists(
    st.builds(
        lambda name, gpus, ready: Node(name, ready=ready, extended={GPU: gpus}),
        st.sampled_from(NAMES),
        st.integers(1, 8),
        st.booleans(),
    ),
    unique_by=lambda node: node.name,
    max_size=3,
)
pods = st.lists(
    st.builds(
        lambda number, node, gpus, owner, plan, phase, leaving: Pod(
            "x", f"p{number}", node=node, extended={GPU: gpus}, owner=owner, group="g" if owner else None,
            plan_hash=plan, phase=phase, terminating=leaving,
        ),
        st.integers(0, 10**6),
        st.sampled_from((*NAMES, None)),
        st.integers(1, 4),
        st.sampled_from((*OWNERS, None)),
        st.sampled_from(("old", "new")),
        st.sampled_from(("Pending", "Running", "Succeeded", "Failed")),
        st.booleans(),
    ),
    max_size=8,
)  # fmt: skip
deployments = st.lists(
    st.builds(
        lambda owner, replicas, gpus, promised_gpus: ManagedDeployment(
            owner, f"{owner[2:]}-g", "g", replicas, GPU, gpus, "new", promised_gpus=promised_gpus
        ),
        st.sampled_from(OWNERS),
        st.integers(0, 6),
        st.integers(1, 4),
        st.integers(0, 24),
    ),
    unique_by=lambda item: item.owner,
    max_size=3,
)


@settings(deadline=None)
@given(nodes, pods, deployments)
def test_claims_stay_within_allocatable(
    nodes: list[Node], pods: list[Pod], deployments: list[ManagedDeployment]
) -> None:
    ledger = build_ledger(nodes, pods, deployments)
    for node in nodes:
        claims = ledger.claims.get(node.name, ())
        bound = sum(claim.gpus for claim in claims if not claim.reserved)
        reserved = sum(claim.gpus for claim in claims if claim.reserved)
        assert reserved <= max(0, node.extended[GPU] - bound)
        assert node.ready or not reserved
        assert bound == sum(p.extended[GPU] for p in pods if p.node == node.name and not p.terminal)
    for view in ledger.capacity(None, GPU):
        assert 0 <= view.free <= view.total


@settings(deadline=None)
@given(nodes, pods, deployments)
def test_order_of_the_lists_does_not_matter(
    nodes: list[Node], pods: list[Pod], deployments: list[ManagedDeployment]
) -> None:
    pods = list({pod.name: pod for pod in pods}.values())
    assert build_ledger(nodes, pods, deployments) == build_ledger(nodes[::-1], pods[::-1], deployments[::-1])


@settings(deadline=None)
@given(nodes, pods, deployments)
def test_no_deployment_reserves_more_than_its_missing_replicas(
    nodes: list[Node], pods: list[Pod], deployments: list[ManagedDeployment]
) -> None:
    ledger = build_ledger(nodes, pods, deployments)
    for deployment in deployments:
        reserved = [claim for claim in ledger.held(deployment.owner, GPU) if claim.reserved]
        assert len(reserved) <= deployment.replicas


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(0, 9)),
    st.integers(1, 5),
    st.integers(0, 20),
)
def test_pack_places_as_many_as_fit(free: dict[str, int], gpus: int, count: int) -> None:
    places = pack(free, gpus, count)
    assert len(places) == min(count, sum(amount // gpus for amount in free.values()))
    assert all(places.count(name) * gpus <= free[name] for name in set(places))
