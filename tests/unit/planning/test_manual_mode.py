"""manual does what is set and nothing else."""

from __future__ import annotations

from builders.asking import Modes, Nodes, Plans


def test_plain_resident_single_gpu_eager(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    found = plan(qwen, gpus("H200", "H200"), mode="manual")
    assert (found.gpus_per_replica, found.layout.ranks) == (1, 1)
    assert set(modes_of(found).values()) == {"resident"}
    assert not found.compile.enabled
    assert not found.vae.tiling
    assert found.fallbacks == ()


def test_settings_are_followed(plan: Plans, gpus: Nodes, wan: str, modes_of: Modes) -> None:
    found = plan(wan, gpus("H200", "H200"), mode="manual", cfg=2, fsdp=True, residency={"vae": "component"})
    assert (found.layout.cfg, found.layout.fsdp) == (2, True)
    assert modes_of(found) == {"text_encoder": "resident", "transformer": "resident", "vae": "component"}
