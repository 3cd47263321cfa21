"""Plain diffusers beside what the engine drew: how far apart, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from builders.parity_cases import BFLOAT16_FACTOR, FLOAT32_TOLERANCE, Kind
from builders.parity_families import plain_latents
from builders.parity_ranks import Drawn


@dataclass(frozen=True)
class Comparison:
    """The largest difference of any latent on any rank, of both requests, and the largest allowed."""

    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.difference <= self.tolerance


class Reference:
    """One rank of plain diffusers, drawn once per dtype."""

    def __init__(self, pipeline: str, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder
        torch.set_num_threads(1)

    @cached_property
    def float32(self) -> Drawn:
        """By request."""
        return plain_latents(self.pipeline, self.folder, torch.float32)

    @cached_property
    def bfloat16_error(self) -> float:
        """How far plain diffusers in bfloat16 is from itself in float32."""
        return apart(plain_latents(self.pipeline, self.folder, torch.bfloat16), self.float32)

    def compare(self, kind: Kind, ranks: list[Drawn]) -> Comparison:
        """Every rank's latents against one plain rank."""
        difference = max(apart(drawn, self.float32) for drawn in ranks)
        if kind.dtype == "bfloat16":
            return Comparison(difference, BFLOAT16_FACTOR * self.bfloat16_error)
        return Comparison(difference, FLOAT32_TOLERANCE)


def apart(drawn: Drawn, expected: Drawn) -> float:
    """The largest difference of any latent of any request; NaN when one is NaN."""
    differences = [(drawn[name].float() - latents).abs().max() for name, latents in expected.items()]
    return torch.stack(differences).max().item()
