"""spec.task and spec.workload.

what a replica is asked to draw, and therefore what memory and time are planned for.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diffusion_operator.api.base import ApiModel

Task = Literal["auto", "textToImage", "imageToImage", "textToVideo", "imageToVideo"]


class ShapeSpec(ApiModel):
    """One size of picture or clip."""

    width: int = Field(ge=16, le=16384, description="Width in pixels. Most families need a multiple of 16.")
    height: int = Field(ge=16, le=16384, description="Height in pixels. Most families need a multiple of 16.")
    frames: int | None = Field(
        None, ge=1, le=10_000, description="Frames of a clip; 1 for a picture. Absent: the family's default."
    )
    steps: int | None = Field(
        None, ge=1, le=1_000, description="Denoising steps of one request. Absent: the family's default."
    )


class WorkloadSpec(ApiModel):
    """What to size a replica for."""

    shapes: tuple[ShapeSpec, ...] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="Sizes that a replica has to serve, 1 to 8. Memory is planned for the largest of "
        "them, time for the first. Absent: the family's default size.",
    )
    guidance: Literal["auto", "on", "off"] | None = Field(
        None,
        description="Whether requests use classifier-free guidance, which doubles the work of a step and "
        "lets two GPUs share it. Write the values in quotes: YAML reads a bare on or off as a "
        'boolean. Absent: "auto", as the model is meant to be used.',
    )
    concurrency: int | None = Field(
        None, ge=1, le=64, description="Requests that one replica draws at the same time. Absent: 1."
    )
    other_shapes: Literal["uncompiled", "refuse"] | None = Field(
        None,
        description="What happens to a request of a size that is not listed in shapes: `uncompiled` "
        "serves it, perhaps slower; `refuse` answers with an error. Absent: `uncompiled`.",
    )
