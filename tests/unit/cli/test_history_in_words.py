"""`kubectl diffusion history NAME`: which plans there were, newest first, why each ended, what serves now."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffusion_operator.cli.errors import NoSuchDeployment
from diffusion_operator.cli.history import history
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.style import Style
from unit.cli.dds import cluster, condition, deployment, placement
from unit.reconcile.plans import plan
from wrappers import GROUP, PodBuilder


def document(made_at: str, plan_hash: str, group: str = "h200", text: str | None = None) -> dict[str, Any]:
    """The ConfigMap of a plan."""
    labels = {f"{GROUP}/deployment": "qwen", f"{GROUP}/group": group, f"{GROUP}/plan-hash": plan_hash}
    name = f"qwen-{group}-{plan_hash}"
    metadata = {"name": name, "labels": labels, "creationTimestamp": made_at}
    return {"metadata": metadata, "data": {"plan.json": REAL.to_json() if text is None else text}}


def replica_set(revision: int, plan_hash: str, group: str = "h200") -> dict[str, Any]:
    labels = {f"{GROUP}/deployment": "qwen", f"{GROUP}/group": group, f"{GROUP}/plan-hash": plan_hash}
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    return {"metadata": {"name": f"rs-{revision}", "labels": labels, "annotations": annotations}}


def pod(name: str, plan_hash: str, ready: bool = True) -> dict[str, Any]:
    return PodBuilder(name, "pictures").on("a").owned_by("qwen", "h200", plan_hash).ready(ready).build()


def known(
    dd: dict[str, Any],
    config_maps: list[dict[str, Any]],
    replica_sets: list[dict[str, Any]] | None = None,
    pods: list[dict[str, Any]] | None = None,
) -> Kubectl:
    return cluster(
        diffusiondeployments=dd, configmaps=config_maps, replicasets=replica_sets or [], pods=pods or []
    )


REAL = plan()
T1, T2, T3 = "2026-11-24T10:02:03Z", "2026-11-25T08:00:00Z", "2026-11-26T09:30:00Z"


def states(kubectl: Kubectl) -> list[tuple[str, str]]:
    plans = json.loads(history(kubectl, "qwen", None, "json", Style()))["plans"]
    return [(one["planHash"], one["state"]) for one in plans]


def test_the_newest_first_with_times_figures_and_reasons() -> None:
    dd = deployment(placements=[placement(2, plan_hash="c")])
    maps = [document(T1, "a"), document(T3, "c"), document(T2, "b", text="{}")]
    maps.append({"metadata": {"name": "qwen-facts-1", "labels": {f"{GROUP}/deployment": "qwen"}}})
    sets = [replica_set(1, "a"), replica_set(2, "b"), replica_set(3, "c")]
    serving = known(dd, maps, sets, [pod("p-1", "c"), pod("p-2", "c", ready=False), pod("p-3", "b")])
    text = history(serving, "qwen", None, "text", Style())
    assert text.splitlines()[0] == "qwen  namespace pictures   3 plans known, newest first"
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["MADE", "(UTC)", "UNTIL", "GROUP", "PLAN", "LAYOUT", "PEAK", "READY", "STATE"],
        ["2026-11-26", "09:30:00", "-", "h200", "c", "1", "GPU", "2.0GiB", "1/2", "serves", "now"],
        ["2026-11-25", "08:00:00", "2026-11-26", "09:30:00", "h200", "b", "-", "-", "1/1", "leaves"],
        ["plan", "c", "took", "its", "place"],
        [
            "2026-11-24",
            "10:02:03",
            "2026-11-25",
            "08:00:00",
            "h200",
            "a",
            "1",
            "GPU",
            "2.0GiB",
            "-",
            "replaced",
        ],
        ["plan", "b", "took", "its", "place"],
    ]


def test_a_plan_that_failed_and_the_one_that_came_back() -> None:
    failed = {
        **{"group": "h200", "planHash": "b", "intent": "i", "hardware": "H200", "reason": "NoUsableGpu"},
        "message": "pod p: no GPU",
    }
    ready = {"group": "h200", "planHash": "a", "intent": "i", "wish": "w", "engineImage": "e"}
    dd = deployment(
        placements=[placement(2, plan_hash="a")],
        history={"failed": [failed], "lastReady": [ready]},
        conditions=[condition("Degraded", "True", "RolledBack")],
    )
    maps = [document(T1, "a"), document(T2, "b")]
    # What came back has the later revision.
    back = known(dd, maps, [replica_set(3, "a"), replica_set(2, "b")], [pod("p-1", "a")])
    assert states(back) == [("a", "serves"), ("b", "failed")]
    text = history(back, "qwen", None, "text", Style())
    assert "came back when b failed" in text
    assert "NoUsableGpu: pod p: no GPU" in text


def test_a_failure_whose_document_is_gone_is_still_told() -> None:
    failed = {"group": "h200", "planHash": "z", "reason": "CrashLoop", "message": "it ended"}
    dd = deployment(placements=[placement(1, plan_hash="a")], history={"failed": [failed]})
    gone = known(dd, [document(T1, "a")])
    assert states(gone) == [("a", "starts"), ("z", "failed")]
    text = history(gone, "qwen", None, "text", Style())
    assert text.splitlines()[4].split() == ["-", "-", "h200", "z", "-", "-", "-", "failed"]


@pytest.mark.parametrize(("to_hash", "words"), [("b", "its fallback b took over"), (None, "no leaner plan")])
def test_a_plan_that_ran_out_of_memory(to_hash: str | None, words: str) -> None:
    end = {"planHash": "a", "layout": "1 GPU", "reason": "CudaOutOfMemory", "message": "asked 4 GiB"}
    end |= {"toHash": to_hash} if to_hash else {}
    dd = deployment(
        placements=[placement(1, plan_hash="b")],
        plan={"hash": "b", "group": "h200", "downgradedFrom": "a"},
        history={"downgrades": [end]},
    )
    stepped = known(dd, [document(T1, "a"), document(T2, "b")], pods=[pod("p", "b")])
    assert states(stepped) == [("b", "serves"), ("a", "outOfMemory")]
    text = history(stepped, "qwen", None, "text", Style())
    assert "a fallback of a, which ran out of memory" in text
    assert "CudaOutOfMemory: asked 4 GiB" in text
    assert words in text


def test_an_engine_on_a_fallback_of_the_plan_is_told() -> None:
    dd = deployment(placements=[placement(1, plan_hash="a")], observed={"executingHash": "lean"})
    assert "its engines execute fallback lean" in history(
        known(dd, [document(T1, "a")], pods=[pod("p", "a")]), "qwen", None, "text", Style()
    )


def test_what_a_failed_roll_out_would_go_back_to_is_told() -> None:
    ready = {"group": "h200", "planHash": "a", "intent": "i", "wish": "w", "engineImage": "e"}
    dd = deployment(placements=[placement(1, plan_hash="b")], history={"lastReady": [ready]})
    rolling = known(dd, [document(T1, "a"), document(T2, "b")], pods=[pod("p", "a"), pod("q", "b", False)])
    assert states(rolling) == [("b", "starts"), ("a", "leaves")]
    text = history(rolling, "qwen", None, "text", Style())
    assert "plan b took its place; a roll-out that fails now goes back to it" in text


def test_groups_in_use_come_first_and_a_group_that_is_left_says_so() -> None:
    dd = deployment(placements=[placement(1, plan_hash="a")])
    both = known(dd, [document(T2, "x", group="a100"), document(T1, "a")], pods=[pod("p", "a")])
    assert states(both) == [("a", "serves"), ("x", "unused")]
    assert "nothing is promised to its group now" in history(both, "qwen", None, "text", Style())


def test_a_suspended_deployment_has_a_plan_without_pods() -> None:
    dd = deployment(plan={"hash": "a", "group": "h200", "layoutSummary": "cfg 2", "peakPerGPU": "57.9GiB"})
    (one,) = json.loads(history(known(dd, []), "qwen", None, "json", Style()))["plans"]
    assert [one[key] for key in ("state", "layout", "peak", "madeAt")] == ["planned", "cfg 2", "57.9GiB", ""]


def test_nothing_planned_yet_and_no_such_name() -> None:
    assert history(known(deployment(), []), "qwen", None, "text", Style()) == (
        "qwen  namespace pictures   0 plans known\n"
    )
    with pytest.raises(NoSuchDeployment):
        history(cluster(), "qwen", None, "text", Style())
