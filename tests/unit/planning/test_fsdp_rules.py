"""FSDP: never on one GPU, in auto only where it replaces transformer offload on a proven family."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Modes, Nodes, Plans
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import Shape, Workload
from diffusion_runtime.planning.errors import BadRequest


@pytest.mark.parametrize("mode", ["manual", "auto", "speed", "memory"])
@pytest.mark.parametrize("product", ["RTX-5090", "H200"])
def test_never_on_one_gpu(plan: Plans, gpus: Nodes, wan: str, mode: str, product: str) -> None:
    assert not plan(wan, gpus(product), mode=mode).layout.fsdp


def test_auto_replaces_transformer_offload_on_a_proven_family(
    plan: Plans, gpus: Nodes, wan: str, modes_of: Modes
) -> None:
    found = plan(wan, gpus("RTX-5090", "RTX-5090"))
    assert found.layout.fsdp
    assert found.layout.cfg == 2
    assert modes_of(found)["transformer"] == "resident"
    assert modes_of(found)["text_encoder"] == "component"


def test_auto_leaves_it_off_where_the_transformer_fits(plan: Plans, gpus: Nodes, wan: str) -> None:
    assert not plan(wan, gpus("H200", "H200")).layout.fsdp
    assert not plan(wan, gpus("L40S", "L40S")).layout.fsdp


@pytest.mark.parametrize("product", ["H200", "A100-40", "L40S", "RTX-4090"])
@pytest.mark.parametrize("mode", ["auto", "speed", "memory"])
def test_qwen_stays_non_fsdp_by_default(plan: Plans, gpus: Nodes, qwen: str, product: str, mode: str) -> None:
    assert not plan(qwen, gpus(product, product), mode=mode).layout.fsdp


@pytest.mark.parametrize("mode", ["manual", "auto", "speed", "memory"])
def test_refusal_holds_in_every_mode(plan: Plans, gpus: Nodes, wan: str, mode: str) -> None:
    found = plan(wan, gpus("RTX-5090", "RTX-5090"), mode=mode, gpus_per_replica=2, fsdp=False)
    assert not found.layout.fsdp
    assert not any(fallback.layout.fsdp for fallback in found.fallbacks)
    assert "fsdp = false" in found.overrides


def test_explicit_fsdp_is_used_though_unproven_with_a_warning(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"), fsdp=True)
    assert found.layout.fsdp
    assert any("fsdp" in warning and "not proven" in warning for warning in found.warnings)


def test_explicit_fsdp_on_one_gpu_is_bad_input(answer: Answers, gpus: Nodes, wan: str) -> None:
    with pytest.raises(BadRequest, match="nobody to shard with"):
        answer(wan, gpus("H200", "H200"), fsdp=True, gpus_per_replica=1)


def test_encoders_return_only_where_the_family_marks_them_safe(
    plan: Plans, gpus: Nodes, wan: str, modes_of: Modes
) -> None:
    safe = facts_for(wan).model_copy(update={"resident_safe_after_fsdp": ("text_encoder",)})
    free = int(29.4 * 2**30)
    pair = gpus("RTX-5090", "RTX-5090", free_bytes=[free, free])
    shape = Shape(width=256, height=256, frames=17, steps=10)
    for facts, mode in ((wan, "component"), (safe, "resident")):
        found = plan(facts, pair, gpus_per_replica=2, compile=True, workload=Workload(shapes=(shape,)))
        assert found.layout.fsdp
        assert modes_of(found)["text_encoder"] == mode
