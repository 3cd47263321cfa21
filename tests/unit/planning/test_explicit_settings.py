"""What the user sets appears in the plan unchanged, is listed as an override, and binds the fallbacks too."""

from __future__ import annotations

from builders.asking import Modes, Nodes, Plans


def test_residency_and_dtype(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    found = plan(
        qwen, gpus("H200"), residency={"transformer": "component"}, dtype={"vae": "float32"}, compile=True
    )
    assert modes_of(found)["transformer"] == "component"
    assert found.dtype == {"text_encoder": "bfloat16", "transformer": "bfloat16", "vae": "float32"}
    assert found.compile.enabled
    assert {"residency.transformer = component", "dtype.vae = float32", "compile = true"} <= set(
        found.overrides
    )
    assert all(fallback.residency["transformer"].mode == "component" for fallback in found.fallbacks)


def test_nothing_set_means_no_overrides(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200")).overrides == ()


def test_tile_size(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200"), vae_tile_size=512)
    assert (found.vae.tiling, found.vae.tile_size) == (True, 512)


def test_forbidden_downgrade_leaves_no_fallbacks(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200")).fallbacks
    assert plan(qwen, gpus("H200"), allow_downgrade=False).fallbacks == ()
