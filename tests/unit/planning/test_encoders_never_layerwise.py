"""Encoders are resident or moved whole; streaming them is not offered, not even when asked for."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes
from diffusion_runtime.planning.errors import BadRequest


@pytest.mark.parametrize("mode", ["auto", "speed", "memory"])
@pytest.mark.parametrize("gib", [18, 24, 44, 80, 140])
def test_no_plan_and_no_fallback_streams_an_encoder(
    answer: Answers, gpus: Nodes, wan: str, mode: str, gib: int
) -> None:
    found = answer(wan, gpus("H200", free_bytes=[min(gib, 139) * 2**30]), mode=mode)
    alternatives = [found, *found.fallbacks]
    assert all(one.residency["text_encoder"].mode != "layerwise" for one in alternatives)


def test_asking_for_it_is_bad_input(answer: Answers, gpus: Nodes, wan: str) -> None:
    with pytest.raises(BadRequest, match="use resident or component") as refusal:
        answer(wan, gpus("H200"), residency={"text_encoder": "layerwise"})
    assert refusal.value.field == "residency.text_encoder"
