"""Every planned field of the spec reaches the planner."""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.placement.wish import intent_of, selection_of, workload_of
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.intent import Intent
from wrappers import DiffusionDeploymentBuilder as Dd


def spec(dd: Dd) -> DiffusionDeploymentSpec:
    return DiffusionDeployment.parse(dd.build()).spec


def test_nothing_said_is_the_planners_default() -> None:
    assert intent_of(spec(Dd())) == Intent()


def test_all_fields_arrive() -> None:
    dd = (
        Dd()
        .set(
            "performance", {"mode": "memory", "objective": "latency", "memoryReserve": "10%", "device": "cpu"}
        )
        .set("performance.allowDowngrade", False)
        .set("parallelism", {"gpusPerReplica": 4, "maxGPUsPerReplica": 8, "cfg": 2, "ulysses": 2, "ring": 1})
        .set("parallelism.tensor", 1)
        .set("parallelism.fsdp", True)
        .set("residency", {"vae": "component"})
        .set("dtype", {"vae": "float32"})
    )
    assert intent_of(spec(dd)) == Intent(
        mode="memory",
        objective="latency",
        memory_reserve_fraction=0.1,
        device="cpu",
        allow_downgrade=False,
        gpus_per_replica=4,
        max_gpus_per_replica=8,
        cfg=2,
        ulysses=2,
        ring=1,
        tensor=1,
        fsdp=True,
        residency={"vae": "component"},
        dtype={"vae": "float32"},
    )


def test_bias_and_reserve_in_bytes() -> None:
    intent = intent_of(spec(Dd().set("performance", {"bias": 0.3, "memoryReserve": "2Gi"})))
    assert (intent.bias, intent.memory_reserve_bytes, intent.memory_reserve_fraction) == (
        0.3,
        2 * 2**30,
        None,
    )


def test_shapes_take_steps_and_frames_of_the_family() -> None:
    facts = facts_for("demo")
    dd = Dd().set(
        "workload", {"shapes": [{"width": 64, "height": 96}, {"width": 64, "height": 64, "steps": 3}]}
    )
    workload = workload_of(spec(dd), facts)
    assert [(s.width, s.height, s.frames, s.steps) for s in workload.shapes] == [
        (64, 96, facts.default_shape.frames, facts.default_shape.steps),
        (64, 64, facts.default_shape.frames, 3),
    ]


def test_workload_settings_arrive() -> None:
    dd = Dd().set("workload", {"guidance": "off", "concurrency": 3, "otherShapes": "refuse"})
    workload = workload_of(spec(dd), facts_for("demo"))
    assert (workload.guidance, workload.concurrency, workload.other_shapes) == ("off", 3, "refuse")


def test_selection_holds_selector_and_tolerations() -> None:
    dd = Dd().set(
        "hardware", {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
    )
    selection = selection_of(spec(dd))
    assert selection.node_selector == {"a": "b"}
    assert [toleration.key for toleration in selection.tolerations] == ["nvidia.com/gpu", "k"]
