"""Plans say "parity not run" for what only the family file calls correct, until a parity file covers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.asking import Nodes, Plans
from diffusion_runtime.models.catalog import PUBLISHED, facts_for
from diffusion_runtime.planning import reasons
from diffusion_runtime.planning.parity import not_shown, without_failed


def test_a_plain_plan_claims_nothing(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200")).warnings == ()


def test_every_claim_in_use_is_named(
    plan: Plans, gpus: Nodes, wan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "not_shown", lambda _, used: tuple(used))
    found = plan(wan, gpus("RTX-5090", "RTX-5090"), gpus_per_replica=2)
    (warning,) = [w for w in found.warnings if w.startswith("parity not run")]
    assert "cfg, fsdp, component" in warning


@pytest.mark.parametrize("model", [model for model in PUBLISHED if "MOVA" not in model])  # planned only
def test_parity_has_shown_every_claim_of_every_published_model(model: str) -> None:
    """A claim that no case of the suite covers would be in no plan's way, but in its warnings."""
    facts = facts_for(model)
    modes = {mode for component in facts.components for mode in component.correct_residencies}
    slices = {"textEncoderTensor"} if any(component.slices for component in facts.components) else set()
    assert not_shown(facts.model.family, sorted({*facts.correct_axes, *modes, *slices})) == ()
    assert without_failed(facts) == facts


def test_what_a_parity_file_covers_needs_no_warning(tmp_path: Path) -> None:
    file = tmp_path / "parity.json"
    file.write_text(json.dumps({"wan": {"passed": ["cfg", "component"], "failed": ["ulysses"]}}))
    assert not_shown("wan", ["cfg", "fsdp", "component"], file) == ("fsdp",)
    assert not_shown("qwen-image", ["cfg"], file) == ("cfg",)


def test_what_a_parity_file_refutes_is_not_offered(tmp_path: Path) -> None:
    file = tmp_path / "parity.json"
    file.write_text(json.dumps({"wan": {"passed": ["fsdp"], "failed": ["cfg", "layerwise"]}}))
    facts = facts_for("Wan-AI/Wan2.1-T2V-14B-Diffusers")
    left = without_failed(facts, file)
    assert set(facts.correct_axes) - set(left.correct_axes) == {"cfg"}
    assert "cfg" not in left.proven_axes
    assert not any("layerwise" in component.correct_residencies for component in left.components)
    assert without_failed(facts_for("Qwen/Qwen-Image"), file) == facts_for("Qwen/Qwen-Image")
