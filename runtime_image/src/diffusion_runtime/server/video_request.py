"""POST /v1/videos: the fields of a form or of a JSON body to one clip to draw, or one sentence naming the
field that is wrong.

As with pictures, every field is acted on or refused. Lengths: `num_frames`, or `seconds` as OpenAI has it,
which is cut to the nearest count of frames that the model draws. A file comes as `input_reference`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusion_runtime.generation.messages import MAX_SEED, PictureRequest
from diffusion_runtime.loading.folder import ModelFolder
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.longest_work import MOST_STEPS

from .fields import boolean, integer, number, text
from .image_request import (
    MAX_CHOSEN_SEED,
    PictureRules,
    check_model,
    rules_of,
    wanted_negative_prompt,
    wanted_scale,
    wanted_size,
)
from .openai_errors import ApiError, bad_field

MAX_FPS = 120
MAX_SECONDS = 600
MAX_INPUT_BYTES = 20 * 1024 * 1024
DATA_URL_START = "data:image/"
INTEGERS = frozenset(
    {"width", "height", "num_frames", "num_inference_steps", "second_stage_steps", "seed", "n"}
)
NUMBERS = frozenset({"seconds", "fps", "guidance_scale", "guidance_scale_2"})
TEXTS = frozenset({"prompt", "model", "size", "negative_prompt", "user"})
BOOLEANS = frozenset({"two_stages"})
FIELDS = INTEGERS | NUMBERS | TEXTS | BOOLEANS | {"input_reference"}
LEAST_SECOND_STEPS = 3
"""As many as the published noise levels of a second stage."""


@dataclass(frozen=True)
class VideoRules:
    """What this engine draws. `frame_multiple`: frames are a multiple of it plus one. `fps`: the rate that
    the model was trained for. `input_images`: pictures that a request brings, at least and at most.
    `two_stages`: the model has an upsampler to draw in two stages with.
    """

    pictures: PictureRules
    frame_multiple: int
    fps: int
    input_images: tuple[int, int]
    two_stages: bool = False

    def frames(self, size: tuple[int, int]) -> int:
        """Planned for this size, else those of the first shape."""
        shapes = self.pictures.shapes
        planned = {(shape.width, shape.height): shape.frames for shape in reversed(shapes)}
        return planned.get(size, shapes[0].frames)


def video_rules_of(plan: Plan, folder: ModelFolder) -> VideoRules | None:
    """The rules of a plan; None when its model draws pictures."""
    if folder.family.fps is None:
        return None
    pictures = rules_of(plan, folder.pixel_multiple, folder.family)
    return VideoRules(
        pictures,
        folder.frame_multiple,
        folder.family.fps,
        folder.input_images,
        two_stages="upsampler" in folder.kinds.values(),
    )


def parse_video_request(
    fields: Any,
    rules: VideoRules,
    reference: bytes | None = None,
    new_seed: Callable[[], int] = lambda: secrets.randbelow(MAX_CHOSEN_SEED),
) -> PictureRequest:
    """Check every field. `reference`: a file that came beside them. Raises ApiError (400, or 404)."""
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a form or a JSON object.", code="invalid_body")
    fields = {name: value for name, value in fields.items() if value is not None}
    _refuse_unknown(fields)
    check_model(fields, rules.pictures)
    size = wanted_size(fields, rules.pictures)
    scale = wanted_scale(fields, rules.pictures)
    fps = _fps(fields, rules)
    frames = _frames(fields, rules, size, fps)
    steps = integer(fields, "num_inference_steps", 1, MOST_STEPS, rules.pictures.steps(size))
    text(fields, "user", required=False)
    integer(fields, "n", 1, 1, 1)
    return PictureRequest(
        prompt=text(fields, "prompt", required=True),
        negative_prompt=wanted_negative_prompt(fields, scale, rules.pictures),
        width=size[0],
        height=size[1],
        frames=frames,
        fps=fps,
        steps=steps,
        second_stage_steps=_second_stage_steps(fields, rules, size, frames, steps),
        guidance_scale=scale,
        guidance_scale_2=number(fields, "guidance_scale_2") if "guidance_scale_2" in fields else None,
        unguided_scale=rules.pictures.unguided_scale,
        seed=integer(fields, "seed", 0, MAX_SEED, -1 if "seed" in fields else new_seed()),
        output_format="mp4",
        input_images=_input_images(fields, rules, reference),
    )


def typed_form(form: dict[str, str]) -> dict[str, Any]:
    """Numbers of a form, which come as text, as numbers. What is none stays text and is refused later."""
    return {name: _typed(name, value) for name, value in form.items()}


def _typed(name: str, value: str) -> Any:
    if name in BOOLEANS:
        return {"true": True, "false": False}.get(value.lower(), value)
    kinds: tuple[Callable[[str], Any], ...] = ()
    if name in INTEGERS | NUMBERS:
        kinds = (int,) if name in INTEGERS else (int, float)
    for kind in kinds:
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _refuse_unknown(fields: dict[str, Any]) -> None:
    for name in fields:
        if name not in FIELDS:
            raise bad_field(name, f"Unknown field {name!r}; known are {', '.join(sorted(FIELDS))}.")


def _fps(fields: dict[str, Any], rules: VideoRules) -> float:
    if "fps" not in fields:
        return float(rules.fps)
    return _positive(fields["fps"], "fps", MAX_FPS)


def _frames(fields: dict[str, Any], rules: VideoRules, size: tuple[int, int], fps: float) -> int:
    if "seconds" in fields and "num_frames" in fields:
        raise bad_field("seconds", "seconds and num_frames are both set; give one of them.")
    every = rules.frame_multiple
    if "seconds" in fields:
        field, seconds = "seconds", _positive(_seconds(fields["seconds"]), "seconds", MAX_SECONDS)
        frames = round(seconds * fps / every) * every + 1
    else:
        field = "num_frames"
        frames = integer(fields, field, 1, MAX_SECONDS * MAX_FPS, rules.frames(size))
        if frames % every != 1 % every:
            raise bad_field(
                field,
                f"num_frames {frames} cannot be drawn: it must be a multiple of {every} plus one, such as "
                f"{max(0, round((frames - 1) / every)) * every + 1}.",
            )
    _check_planned(field, size, frames, rules)
    return frames


def _second_stage_steps(
    fields: dict[str, Any], rules: VideoRules, size: tuple[int, int], frames: int, steps: int
) -> int:
    """0 where the clip is drawn at once; else, by default, a third of the first stage's."""
    if not boolean(fields, "two_stages"):
        if "second_stage_steps" in fields:
            raise bad_field("second_stage_steps", "second_stage_steps has no effect without two_stages.")
        return 0
    if not rules.two_stages:
        raise bad_field(
            "two_stages",
            f"{rules.pictures.model!r} has no latent upsampler to draw in two stages with; leave it out.",
        )
    width, height = size
    multiple = 2 * rules.pictures.pixel_multiple
    if width % multiple or height % multiple:
        fitting = "x".join(str(max(side // multiple, 1) * multiple) for side in size)
        raise bad_field(
            "two_stages",
            f"two_stages begins at half of {width}x{height}, which cannot be drawn: both sides must be "
            f"multiples of {multiple}, such as {fitting}.",
        )
    _check_planned(
        "two_stages", (width // 2, height // 2), frames, rules, "two_stages begins at half of the size: "
    )
    second = integer(fields, "second_stage_steps", 1, MOST_STEPS, max(LEAST_SECOND_STEPS, steps // 3))
    if steps + second > MOST_STEPS:
        raise bad_field(
            "second_stage_steps",
            f"num_inference_steps {steps} and second_stage_steps {second} are together more than "
            f"{MOST_STEPS}.",
        )
    return second


def _check_planned(
    field: str, size: tuple[int, int], frames: int, rules: VideoRules, before: str = ""
) -> None:
    """Memory was planned for the largest shape, so nothing larger is drawn."""
    shapes = [(shape.width, shape.height, shape.frames) for shape in rules.pictures.shapes]
    largest = max(shapes, key=lambda shape: shape[0] * shape[1] * shape[2])
    what = f"{before}{size[0]}x{size[1]} with {frames} frames"
    if rules.pictures.only_these_sizes and (*size, frames) not in shapes:
        known = ", ".join(f"{w}x{h} with {count} frames" for w, h, count in dict.fromkeys(shapes))
        raise bad_field(field, f"{what} is not among the sizes planned for this engine: {known}.")
    if size[0] * size[1] * frames > largest[0] * largest[1] * largest[2]:
        raise bad_field(
            field,
            f"{what} is too large: memory was planned for {largest[0]}x{largest[1]} with {largest[2]}.",
        )


def _seconds(value: Any) -> Any:
    """OpenAI clients send "4", "8" or "12" as text."""
    return _typed("seconds", value) if isinstance(value, str) else value


def _positive(value: Any, name: str, most: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= most:
        raise bad_field(name, f"{name} {value!r} must be a number above 0 and at most {most}.")
    return float(value)


def _input_images(fields: dict[str, Any], rules: VideoRules, reference: bytes | None) -> tuple[bytes, ...]:
    if reference is None and "input_reference" in fields:
        reference = _reference_of(fields["input_reference"])
    least, most = rules.input_images
    if reference is not None and most == 0:
        raise bad_field(
            "input_reference", f"{rules.pictures.model!r} makes clips from text alone; leave the picture out."
        )
    if reference is None and least:
        raise bad_field(
            "input_reference", f"{rules.pictures.model!r} makes a clip from a picture: send one as a file."
        )
    if reference is not None and len(reference) > MAX_INPUT_BYTES:
        raise bad_field("input_reference", f"input_reference is larger than {MAX_INPUT_BYTES} bytes.")
    return () if reference is None else (reference,)


def _reference_of(value: Any) -> bytes:
    """OpenAI's JSON form, {"image_url": "data:image/png;base64,..."}. Nothing is fetched from anywhere."""
    url = value.get("image_url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith(DATA_URL_START):
        raise bad_field(
            "input_reference",
            'input_reference must be a file of a form, or {"image_url": "data:image/png;base64,..."}; '
            "this engine fetches no addresses and keeps no files.",
        )
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise bad_field("input_reference", f"input_reference is not valid base64: {error}.") from error
