"""What parent and rank say to each other, as frozen JSON documents. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from diffusion_runtime.planning.documents import Document, Execution, PhaseMeasurement, Shape

OutputFormat = Literal["png", "jpeg", "webp"]
ClipFormat = Literal["mp4"]
Size = tuple[int, int, int]
"""Width and height in pixels, frames."""
MAX_SEED = 2**63 - 1


class PictureRequest(Document):
    """One picture or one clip of `frames` frames, to be shown at `fps` frames a second.

    `guidance_scale` above `unguided_scale`, which is the family's, means two passes per step, with
    `negative_prompt` for the second. `embedded_guidance` is for a model that reads a scale as an input; None
    is its authors' scale.
    `guidance_scale_2` is for the second transformer of a pipeline with two; None means the same.
    `second_stage_steps`: drawn in `steps` at half of the size, upsampled, then denoised at the full size in
    so many; 0: drawn at once.
    """

    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    steps: Annotated[int, Field(ge=1)]
    second_stage_steps: Annotated[int, Field(ge=0)] = 0
    frames: Annotated[int, Field(ge=1)] = 1
    fps: Annotated[float, Field(gt=0)] = 16.0
    guidance_scale: float
    guidance_scale_2: float | None = None
    unguided_scale: float = 1.0
    embedded_guidance: float | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    output_format: OutputFormat | ClipFormat = "png"
    compression: Annotated[int, Field(ge=0, le=100)] = 100
    input_images: tuple[bytes, ...] = Field((), exclude=True)
    """Files of pictures to start from. Not part of the JSON: see `draw_frame`."""

    @property
    def guided(self) -> bool:
        """Whether each step has a second pass."""
        return self.guidance_scale > self.unguided_scale

    @property
    def size(self) -> Size:
        """What compiled blocks are made for."""
        return self.width, self.height, self.frames

    @property
    def all_steps(self) -> int:
        """Of both stages."""
        return self.steps + self.second_stage_steps

    @property
    def first_stage(self) -> PictureRequest:
        """What is drawn first of a request in two stages: the same at half of its width and height."""
        half = {"width": self.width // 2, "height": self.height // 2, "second_stage_steps": 0}
        return self.model_copy(update=half)


def draw_frame(request: PictureRequest) -> tuple[dict[str, Any], bytes]:
    """Header and body of the command to draw: the request as JSON, its input pictures as raw bytes."""
    lengths = [len(picture) for picture in request.input_images]
    header = {"kind": "draw", "request": request.to_dict(), "inputBytes": lengths}
    return header, b"".join(request.input_images)


def drawn_request(header: dict[str, Any], body: bytes) -> PictureRequest:
    """The request of such a frame."""
    pictures, start = [], 0
    for length in header.get("inputBytes", ()):
        pictures.append(body[start : start + length])
        start += length
    request = PictureRequest.model_validate(header["request"])
    return request.model_copy(update={"input_images": tuple(pictures)})


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
    before it and the warm-up after it. `allocator`: settings of torch's caching allocator on a GPU.
    """

    kind: Literal["ready"] = "ready"
    load: PhaseMeasurement
    stages: dict[str, float] = Field(default_factory=dict)
    loaded_bytes: int = 0
    versions: dict[str, str]
    allocator: str | None = None


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
