"""What parent and rank say to each other, as frozen JSON documents. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diffusion_runtime.planning.documents import Document, Execution, PhaseMeasurement, Shape

OutputFormat = Literal["png", "jpeg", "webp"]
MAX_SEED = 2**63 - 1


class PictureRequest(Document):
    """One picture.

    `guidance_scale` above 1 means two passes per step, with `negative_prompt` for the second.
    """

    prompt: str
    negative_prompt: str = " "
    width: int
    height: int
    steps: Annotated[int, Field(ge=1)]
    guidance_scale: float
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    output_format: OutputFormat = "png"
    compression: Annotated[int, Field(ge=0, le=100)] = 100

    @property
    def guided(self) -> bool:
        """Whether each step has a second pass (diffusers: true_cfg_scale > 1)."""
        return self.guidance_scale > 1


class StartRank(Document):
    """First frame to a rank: everything it must load and how. Paths are absolute.

    `shapes` are the plan's declared ones, needed to warm up compiled blocks; `guidance` is the plan's.
    """

    kind: Literal["start"] = "start"
    rank: int
    execution: Execution
    model_path: str
    rendezvous: str
    collective_timeout_s: float
    shapes: tuple[Shape, ...] = ()
    guidance: bool = True


class Ready(Document):
    """A rank has loaded and, where blocks are compiled, drawn every declared shape once.

    `load` is what loading took, `stages` its seconds part by part (see loading.record), with the import
    before it and the warm-up after it.
    """

    kind: Literal["ready"] = "ready"
    load: PhaseMeasurement
    stages: dict[str, float] = Field(default_factory=dict)
    loaded_bytes: int = 0
    versions: dict[str, str]


class Done(Document):
    """A rank has finished a picture. Rank 0's frame carries the encoded picture as its body.

    `compiled`: its blocks ran compiled; a size that was not planned for runs uncompiled.
    """

    kind: Literal["done"] = "done"
    phases: dict[str, PhaseMeasurement]
    seconds_per_step: float
    compiled: bool = False


class PictureFailed(Document):
    """This request cannot be drawn; the rank itself is fine. `field` is set when the request is at fault."""

    kind: Literal["pictureFailed"] = "pictureFailed"
    message: str
    field: str | None = None


class RankFailure(Document):
    """A rank (or the whole group) is of no more use. `final`: no new group would do better."""

    kind: Literal["failed"] = "failed"
    reason: str
    message: str
    phase: str
    rank: int | None = None
    bytes_asked: int | None = None
    bytes_free: int | None = None
    executing_hash: str | None = None
    """Plan or fallback that ran when it was lost; set by the engine."""
    final: bool = False
