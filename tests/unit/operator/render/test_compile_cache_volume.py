"""The volume for compiled kernels: only for plans that compile, a folder for each engine image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import parse_node
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.facts import pod_claims
from diffusion_operator.render.compile_cache import MOUNT, VARIABLE, image_key
from diffusion_operator.render.deployment import render_deployment
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.planning.documents import CompileSettings
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

CLAIM = {"compiled": {"claimName": "kernels"}}


def template(compiles: bool, image: str = "engine:1", **cache: Any) -> dict[str, Any]:
    builder = Dd().set("cache", cache) if cache else Dd()
    dd = DiffusionDeployment.parse(builder.build())
    (group,) = decide(dd, build_ledger([parse_node(NodeBuilder("n").gpus(2).build())], [], [])).groups
    plan = group.plan.model_copy(update={"compile": CompileSettings(enabled=compiles)})
    made = render_deployment(dd, replace(group, plan=plan), RenderSettings(image))
    return dict(made["spec"]["template"])


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}


def test_a_compiled_plan_finds_its_kernels_again() -> None:
    pod = template(True, **CLAIM)
    assert {"name": "compiled", "persistentVolumeClaim": {"claimName": "kernels"}} in pod["spec"]["volumes"]
    (engine,) = pod["spec"]["containers"]
    assert {"name": "compiled", "mountPath": MOUNT} in engine["volumeMounts"]
    assert variables(pod)[VARIABLE] == f"{MOUNT}/{image_key('engine:1')}"


@pytest.mark.parametrize(("compiles", "cache"), [(False, CLAIM), (True, {}), (False, {})])
def test_without_a_need_nothing_changes(compiles: bool, cache: dict[str, Any]) -> None:
    assert template(compiles, **cache) == template(compiles)
    assert VARIABLE not in variables(template(compiles, **cache))


def test_another_image_has_another_folder() -> None:
    folders = {variables(template(True, image, **CLAIM))[VARIABLE] for image in ("engine:1", "engine:2")}
    assert len(folders) == 2
    digest = "0123456789abcdef" * 4
    assert (
        image_key(f"engine:1@sha256:{digest}") == image_key(f"mirror/engine@sha256:{digest}") == digest[:12]
    )


def test_its_claim_bounds_where_pods_run() -> None:
    spec = DiffusionDeployment.parse(Dd().set("cache", CLAIM).build()).spec
    assert pod_claims(spec) == ("kernels",)
    hub = {"pvc": {"claimName": "kernels"}, **CLAIM}
    both = Dd().set("model.source", {"huggingFace": {"repo": "a/b"}}).set("cache", hub)
    assert pod_claims(DiffusionDeployment.parse(both.build()).spec) == ("kernels",)
