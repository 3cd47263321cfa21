"""Sound that a pipeline makes beside its frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sound:
    """Samples (channels, samples) in -1..1, one or two channels; `rate` samples a second."""

    samples: torch.Tensor
    rate: int
