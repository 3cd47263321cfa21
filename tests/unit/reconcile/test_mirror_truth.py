"""Whatever order lists, events and own answers come in, the mirror ends at what the server holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    GPU_NODES,
    NODES,
    PODS,
    REPLICA_SETS,
    JsonObject,
    Resource,
)
from diffusion_operator.reconcile.keys import CAPACITY, DeploymentKey, Key
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.wakes import Wakes
from unit.reconcile.bells import OneBell

OWNER = ("team", "demo")
KEY = DeploymentKey(*OWNER)
OURS = {"diffusion-operator.io/deployment": "demo"}


def thing(version: int, name: str = "demo", **more: Any) -> JsonObject:
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | more.pop("metadata", {}), **more}


def pod(version: int, phase: str = "Running", node: str = "node-1", **labels: str) -> JsonObject:
    container = {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    spec = {"nodeName": node, "containers": [container]}
    return thing(version, "pod", metadata={"labels": labels}, spec=spec, status={"phase": phase})


def whole_list(mirror: Mirror, items: list[JsonObject], version: str) -> None:
    """In two chunks, after one of a list that broke off."""
    listing = mirror.listing(DIFFUSION_DEPLOYMENTS)
    listing.begin()
    listing.take(items[:1])
    listing.begin()
    listing.take(items[: len(items) // 2])
    listing.take(items[len(items) // 2 :])
    listing.end(version)


def known(mirror: Mirror, resource: Resource = DIFFUSION_DEPLOYMENTS) -> dict[str, int]:
    return {name: entry.version for (_, name), entry in mirror.entries(resource)}


def test_an_older_event_after_our_own_write_changes_nothing() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENTS, thing(7, metadata={"labels": OURS}, spec={"replicas": 3}), own=True)
    mirror.put(DEPLOYMENTS, thing(5, metadata={"labels": OURS}, spec={"replicas": 1}))
    assert mirror.owned(DEPLOYMENTS, OWNER)[0]["spec"]["replicas"] == 3


def test_a_late_answer_does_not_bring_back_what_a_watch_saw_go() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENTS, thing(5))
    mirror.drop(DEPLOYMENTS, thing(8))
    mirror.put(DEPLOYMENTS, thing(7), own=True)
    assert known(mirror, DEPLOYMENTS) == {}
    mirror.put(DEPLOYMENTS, thing(9))
    assert known(mirror, DEPLOYMENTS) == {"demo": 9}


def test_a_late_deletion_does_not_remove_a_successor() -> None:
    mirror = Mirror()
    mirror.put(DIFFUSION_DEPLOYMENTS, thing(9, metadata={"uid": "new"}))
    mirror.drop(DIFFUSION_DEPLOYMENTS, thing(8))
    assert known(mirror) == {"demo": 9}


def test_a_list_removes_ghosts_and_keeps_what_is_newer_than_it() -> None:
    mirror = Mirror()
    mirror.put(DIFFUSION_DEPLOYMENTS, thing(5, "ghost"))
    mirror.put(DIFFUSION_DEPLOYMENTS, thing(12, "just-made"))
    whole_list(mirror, [thing(6, "stays")], "10")
    assert known(mirror) == {"stays": 6, "just-made": 12}
    # What is not newer than the list and was not in it was deleted before it.
    mirror.put(DIFFUSION_DEPLOYMENTS, thing(5, "ghost"))
    assert "ghost" not in known(mirror)


def test_a_list_that_broke_off_takes_nothing_away() -> None:
    mirror = Mirror()
    whole_list(mirror, [thing(5), thing(6, "other")], "10")
    listing = mirror.listing(DIFFUSION_DEPLOYMENTS)
    listing.begin()
    listing.take([thing(12)])
    assert known(mirror) == {"demo": 12, "other": 6}
    listing.begin()  # once more, and "other" is gone meanwhile
    listing.take([thing(12)])
    listing.end("20")
    assert known(mirror) == {"demo": 12}


def test_a_stale_list_takes_nothing_back() -> None:
    """F2: an API server that answers from the past."""
    mirror = Mirror()
    whole_list(mirror, [thing(10), thing(11, "other")], "20")
    mirror.put(DIFFUSION_DEPLOYMENTS, thing(25, spec={"replicas": 4}))
    mirror.drop(DIFFUSION_DEPLOYMENTS, thing(26, "other"))
    whole_list(mirror, [thing(10, spec={"replicas": 1}), thing(11, "other")], "20")
    assert known(mirror) == {"demo": 25}


def test_pods_are_kept_slim_and_foreign_ones_without_their_body() -> None:
    mirror = Mirror()
    mirror.put(PODS, pod(1))
    assert mirror.get(PODS, "team", "pod") is None
    mirror.put(PODS, pod(2, **OURS) | {"metadata": pod(2, **OURS)["metadata"] | {"managedFields": [1]}})
    (kept,) = mirror.owned(PODS, OWNER)
    assert kept["spec"] == {"nodeName": "node-1", "containers": [{"name": "engine", "image": None}]}
    assert "managedFields" not in kept["metadata"]


class Woken:
    """The keys that changes of a mirror woke."""

    def __init__(self, *namespaces: str) -> None:
        self.keys: list[Key] = []
        self.mirror = Mirror()
        self.mirror.on_change(Wakes(OneBell(self.keys.append), namespaces))

    def take(self) -> list[Key]:
        taken, self.keys[:] = list(self.keys), []
        return taken


def test_a_status_wakes_nobody_and_a_spec_in_the_answer_to_a_status_does() -> None:
    woken = Woken()
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(1, metadata={"generation": 1}))
    assert woken.take() == [KEY]
    woken.mirror.put(
        DIFFUSION_DEPLOYMENTS, thing(2, metadata={"generation": 1}, status={"replicas": 1}), own=True
    )
    assert woken.take() == []
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(4, metadata={"generation": 2}), own=True)
    assert woken.take() == [KEY]
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(3, metadata={"generation": 2}))  # its echo, too late
    assert woken.take() == []


def test_a_smaller_promise_wakes_those_who_wait() -> None:
    woken = Woken()
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(1, status={"placements": [{"replicas": 3}]}))
    woken.take()
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(2, status={"placements": [{"replicas": 1}]}), own=True)
    assert woken.take() == [CAPACITY]


def test_our_own_writes_wake_nobody_and_edits_by_hand_do() -> None:
    woken = Woken()
    woken.mirror.put(CONFIG_MAPS, thing(1, metadata={"labels": OURS}, data={"plan.json": "{}"}), own=True)
    assert woken.take() == []
    woken.mirror.put(CONFIG_MAPS, thing(2, metadata={"labels": OURS}, data={"plan.json": "edited"}))
    assert woken.take() == [KEY]
    woken.mirror.drop(CONFIG_MAPS, thing(3, metadata={"labels": OURS}))
    assert woken.take() == [KEY]


def test_what_reconciles_do_not_read_wakes_nobody() -> None:
    woken = Woken()
    for version in (1, 2):
        woken.mirror.put(
            REPLICA_SETS, thing(version, metadata={"labels": OURS}, status={"replicas": version})
        )
    assert woken.take() == [KEY]  # the first sight alone


def test_a_foreign_pod_that_ends_wakes_those_who_wait_at_once() -> None:
    woken = Woken()
    woken.mirror.put(PODS, pod(1))
    assert woken.take() == []
    woken.mirror.put(PODS, pod(2, phase="Succeeded"))
    assert woken.take() == [CAPACITY]


def test_only_served_namespaces_are_woken() -> None:
    woken = Woken("elsewhere")
    woken.mirror.put(DIFFUSION_DEPLOYMENTS, thing(1))
    assert woken.take() == []


def test_a_heartbeat_of_a_node_is_no_change() -> None:
    woken = Woken()
    for version, gpus in ((1, "1"), (2, "1"), (3, "2")):
        status = {"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "at": version}]}
        woken.mirror.put(NODES, {"metadata": thing(version, "node-1")["metadata"], "status": status})
    assert woken.take() == [CAPACITY, CAPACITY]


Step = tuple[str, int]
STEPS = st.lists(st.tuples(st.sampled_from(("change", "delete")), st.integers(0, 4)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.randoms(use_true_random=False), st.floats(0.0, 0.2))
def test_any_order_and_loss_of_events_ends_at_the_truth_after_one_list(
    steps: list[Step], chance: Any, lost: float
) -> None:
    """F3: events are late, doubled, out of order and lost, lists stale; one true list heals it all."""
    truth: dict[str, int] = {}
    events: list[tuple[str, JsonObject]] = []
    lists: list[tuple[list[JsonObject], str]] = []
    for version, (what, number) in enumerate(steps, 1):
        name = f"dd-{number}"
        if what == "change":
            truth[name] = version
            events.append(("put", thing(version, name)))
        elif truth.pop(name, None) is not None:
            events.append(("drop", thing(version, name)))
        lists.append(([thing(at, one) for one, at in truth.items()], str(version)))
    mirror = Mirror()
    arriving = [event for event in events for _ in range(chance.choice((1, 1, 2))) if chance.random() > lost]
    chance.shuffle(arriving)
    for verb, obj in arriving:
        (mirror.put if verb == "put" else mirror.drop)(DIFFUSION_DEPLOYMENTS, obj)
        if lists and chance.random() < 0.2:
            whole_list(mirror, *chance.choice(lists))
    whole_list(mirror, [thing(at, one) for one, at in truth.items()], str(len(steps)))
    assert known(mirror) == truth


def test_a_node_agent_that_becomes_ready_or_ceases_to_be_wakes_those_who_wait() -> None:
    woken = Woken()
    report = {"metadata": {"name": "node-1"}, "status": {"reporter": {"uid": "agent"}, "gpus": []}}

    def agent(version: int, ready: str) -> dict[str, Any]:
        metadata = {"name": "agent", "namespace": "system", "uid": "agent", "resourceVersion": str(version)}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status}

    woken.mirror.put(PODS, agent(1, "False"))
    report["metadata"] |= {"resourceVersion": "2", "uid": "report"}
    woken.mirror.put(GPU_NODES, report)
    woken.take()
    woken.mirror.put(PODS, agent(3, "True"))
    assert woken.take() == [CAPACITY]
    woken.mirror.put(PODS, agent(4, "True"))
    assert woken.take() == []
    woken.mirror.put(PODS, agent(5, "False"))
    assert woken.take() == [CAPACITY]
    woken.mirror.put(PODS, agent(6, "True"))
    woken.take()
    woken.mirror.drop(PODS, agent(7, "True"))
    assert woken.take() == [CAPACITY]
