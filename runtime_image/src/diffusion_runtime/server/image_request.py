"""POST /v1/images/generations and /edits: fields to pictures to draw, or one sentence naming the field
that is wrong.

Every field is either acted on or refused; none is ignored. `user` is the one exception: OpenAI defines it as
a label.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from diffusion_runtime.generation.messages import MAX_SEED, OutputFormat, PictureRequest
from diffusion_runtime.loading.allowed import AllowedFamily
from diffusion_runtime.planning.documents import Plan, Shape
from diffusion_runtime.planning.longest_work import MOST_PICTURES, MOST_STEPS

from .fields import choice, integer, kind, number, text, words
from .openai_errors import ApiError, bad_field

MAX_SIDE_PIXELS = 2_048
MAX_CHOSEN_SEED = 2**31 - 1  # seeds that we choose fit the 32-bit fields of other tools
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
# Fields of the OpenAI call that a diffusion model cannot act on, with the values that ask for nothing.
PASSIVE_FIELDS: dict[str, tuple[Any, ...]] = {
    "quality": ("auto",),
    "background": ("auto", "opaque"),
    "moderation": ("auto", "low"),
    "stream": (False,),
    "partial_images": (0,),
    "input_fidelity": ("low",),
}
ACTIVE_FIELDS = frozenset(
    {
        "prompt",
        "model",
        "n",
        "size",
        "width",
        "height",
        "response_format",
        "output_format",
        "output_compression",
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "true_cfg_scale",
        "seed",
        "user",
    }
)


@dataclass(frozen=True)
class PictureRules:
    """What this engine draws: from its plan and its model folder.

    `input_images`: pictures that a request brings, at least and at most.
    """

    model: str
    pixel_multiple: int
    shapes: tuple[Shape, ...]
    only_these_sizes: bool
    guidance_scale: float
    unguided_scale: float = 1.0
    embeds_guidance: bool = False
    input_images: tuple[int, int] = (0, 0)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Planned widths and heights; the first is the default."""
        return tuple((shape.width, shape.height) for shape in self.shapes)

    @property
    def largest(self) -> tuple[int, int]:
        """The planned size with most pixels: memory was planned for it, so nothing larger is drawn."""
        return max(self.sizes, key=lambda size: size[0] * size[1])

    @property
    def max_side(self) -> int:
        """Pixels; planned sizes are always allowed."""
        return max(MAX_SIDE_PIXELS, *(side for size in self.sizes for side in size))

    def steps(self, size: tuple[int, int]) -> int:
        """Planned for this size, else those of the first shape."""
        planned = {(shape.width, shape.height): shape.steps for shape in reversed(self.shapes)}
        return planned.get(size, self.shapes[0].steps)


def rules_of(plan: Plan, pixel_multiple: int, family: AllowedFamily) -> PictureRules:
    """The rules of a plan. Its first shape is the default size; no guidance planned means none by default."""
    return PictureRules(
        model=plan.model.name,
        pixel_multiple=pixel_multiple,
        shapes=plan.shapes,
        only_these_sizes=plan.other_shapes == "refuse",
        guidance_scale=family.guidance_scale if plan.guidance else family.unguided_scale,
        unguided_scale=family.unguided_scale,
        embeds_guidance=family.embeds_guidance,
        input_images=family.input_images,
    )


@dataclass(frozen=True)
class ImagesRequest:
    """The pictures to draw, one request each, seeds counting up."""

    pictures: tuple[PictureRequest, ...]
    output_format: OutputFormat


def parse_images_request(
    body: Any,
    rules: PictureRules,
    new_seed: Callable[[], int] = lambda: secrets.randbelow(MAX_CHOSEN_SEED),
    input_images: tuple[bytes, ...] = (),
) -> ImagesRequest:
    """Check every field; `input_images` came beside them. Raises ApiError (400, or 404 for another model)."""
    if not isinstance(body, dict):
        raise ApiError(400, f"The body must be a JSON object, not {kind(body)}.", code="invalid_body")
    body = {name: value for name, value in body.items() if value is not None}
    _refuse_unknown(body)
    check_model(body, rules)
    width, height = wanted_size(body, rules)
    scale = wanted_scale(body, rules)
    output_format = choice(body, "output_format", OUTPUT_FORMATS, "png")
    first = PictureRequest(
        prompt=text(body, "prompt", required=True),
        negative_prompt=wanted_negative_prompt(body, scale, rules),
        width=width,
        height=height,
        steps=integer(body, "num_inference_steps", 1, MOST_STEPS, rules.steps((width, height))),
        guidance_scale=scale,
        unguided_scale=rules.unguided_scale,
        embedded_guidance=_embedded_guidance(body, rules),
        seed=integer(body, "seed", 0, MAX_SEED, -1 if "seed" in body else new_seed()),
        output_format=output_format,
        compression=_compression(body, output_format),
        input_images=input_images,
    )
    count = integer(body, "n", 1, MOST_PICTURES, 1)
    choice(body, "response_format", ("b64_json",), "b64_json")
    text(body, "user", required=False)
    return ImagesRequest(numbered(first, count), output_format)


def numbered(first: PictureRequest, count: int) -> tuple[PictureRequest, ...]:
    """The same request `count` times, seeds counting up."""
    seeds = [(first.seed + offset) % (MAX_SEED + 1) for offset in range(count)]
    return tuple(first.model_copy(update={"seed": seed}) for seed in seeds)


def _refuse_unknown(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if name in PASSIVE_FIELDS:
            allowed = PASSIVE_FIELDS[name]
            if not any(value == choice and type(value) is type(choice) for choice in allowed):
                raise bad_field(
                    name, f"{name} {value!r} is not supported; this engine takes {words(allowed)}."
                )
        elif name not in ACTIVE_FIELDS:
            raise bad_field(name, f"Unknown field {name!r}; known are {', '.join(sorted(ACTIVE_FIELDS))}.")


def check_model(body: dict[str, Any], rules: PictureRules) -> None:
    """Refuse a model that is not served here (404)."""
    model = text(body, "model", required=False) or rules.model
    if model != rules.model:
        message = f"model {model!r} is not served here; this engine serves {rules.model!r}."
        raise ApiError(404, message, param="model", code="model_not_found")


def wanted_size(body: dict[str, Any], rules: PictureRules) -> tuple[int, int]:
    """Width and height that are asked for, else the first planned ones."""
    default = rules.sizes[0]
    if "size" in body and ("width" in body or "height" in body):
        raise bad_field("size", "size and width/height are both set; give one of them.")
    if "size" in body:
        return _checked_size("size", _parse_size(body["size"], default), rules)
    width = integer(body, "width", 1, rules.max_side, default[0])
    height = integer(body, "height", 1, rules.max_side, default[1])
    return _checked_size("width" if "width" in body else "height", (width, height), rules)


def _parse_size(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    if value == "auto":
        return default
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", value) if isinstance(value, str) else None
    if match is None:
        raise bad_field("size", f"size {value!r} must be 'auto' or WIDTHxHEIGHT in pixels, like '1024x1024'.")
    return int(match[1]), int(match[2])


def _checked_size(param: str, size: tuple[int, int], rules: PictureRules) -> tuple[int, int]:
    text = f"{size[0]}x{size[1]}"
    if any(side % rules.pixel_multiple for side in size):
        raise bad_field(
            param, f"{param} {text} cannot be drawn: both sides must be multiples of {rules.pixel_multiple}."
        )
    if max(size) > rules.max_side:
        raise bad_field(
            param, f"{param} {text} is too large: a side may have {rules.max_side} pixels at most."
        )
    if rules.only_these_sizes and size not in rules.sizes:
        known = ", ".join(f"{width}x{height}" for width, height in dict.fromkeys(rules.sizes))
        raise bad_field(param, f"{param} {text} is not among the sizes planned for this engine: {known}.")
    most = rules.largest[0] * rules.largest[1]
    if size[0] * size[1] > most:
        raise bad_field(
            param,
            f"{param} {text} is too large: memory was planned for {most} pixels "
            f"({rules.largest[0]}x{rules.largest[1]}), it has {size[0] * size[1]}.",
        )
    return size


def wanted_scale(body: dict[str, Any], rules: PictureRules) -> float:
    """The scale of a second pass. Where the model reads no scale itself, it is one value with two names."""
    names = ("true_cfg_scale",) if rules.embeds_guidance else ("true_cfg_scale", "guidance_scale")
    named = {name: number(body, name) for name in names if name in body}
    if len(set(named.values())) > 1:
        raise bad_field(
            "guidance_scale", "guidance_scale and true_cfg_scale are the same setting here but differ."
        )
    return next(iter(named.values()), rules.guidance_scale)


def _embedded_guidance(body: dict[str, Any], rules: PictureRules) -> float | None:
    if not rules.embeds_guidance or "guidance_scale" not in body:
        return None
    return number(body, "guidance_scale")


def wanted_negative_prompt(body: dict[str, Any], scale: float, rules: PictureRules) -> str:
    """What the second pass draws away from; refused where there is none."""
    if "negative_prompt" in body and scale <= rules.unguided_scale:
        name = "true_cfg_scale" if rules.embeds_guidance else "guidance scale"
        raise bad_field(
            "negative_prompt",
            f"negative_prompt has no effect at {name} {scale:g}; set one above {rules.unguided_scale:g}.",
        )
    return text(body, "negative_prompt", required=False)


def _compression(body: dict[str, Any], output_format: OutputFormat) -> int:
    quality = integer(body, "output_compression", 0, 100, 100)
    if output_format == "png" and quality != 100:
        raise bad_field(
            "output_compression", f"output_compression {quality} has no effect on png; use jpeg or webp."
        )
    return quality
