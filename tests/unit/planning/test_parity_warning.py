"""Plans say "parity not run" for what only the family file calls correct, until a parity file covers it."""

from __future__ import annotations

import json
from pathlib import Path

from builders.asking import Nodes, Plans
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.parity import PARITY_FILE, not_shown, without_failed


def test_a_plain_plan_claims_nothing(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200")).warnings == ()


def test_every_claim_in_use_is_named(plan: Plans, gpus: Nodes, wan: str) -> None:
    found = plan(wan, gpus("RTX-5090", "RTX-5090"), gpus_per_replica=2)
    (warning,) = [w for w in found.warnings if w.startswith("parity not run")]
    assert not PARITY_FILE.exists()
    assert "cfg, fsdp, component" in warning


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
