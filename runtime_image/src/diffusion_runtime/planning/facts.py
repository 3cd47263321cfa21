"""What the planner must know of one model: sizes, shapes, costs, and what is correct and proven for it.

Pure data, handed in by `models`. Elements are counted exactly (from safetensors headers or a meta-device
instantiation); activation coefficients are fitted on measurements. Nothing here looks at a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from diffusion_runtime.planning.documents import (
    FACTS_SCHEMA,
    ComponentKind,
    Document,
    DtypeName,
    ModelRef,
    NonNegative,
    Positive,
    ResidencyMode,
    Shape,
)

LayoutAxis = Literal["cfg", "ulysses", "ring", "tensor", "fsdp"]
DTYPE_BYTES: dict[DtypeName, int] = {"bfloat16": 2, "float16": 2, "float32": 4}


class BlockGroup(Document):
    """Repeated blocks under one path (`transformer_blocks`): their count, and the largest one's elements."""

    path: str
    count: Positive
    elements: Positive
    float32_elements: NonNegative = 0


SLICEABLE_ENCODERS = (
    "Gemma3ForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3ForCausalLM",
    "Qwen3Model",
)
"""Text encoders with a tensor-parallel plan in transformers; CLIP, T5 and UMT5 have none."""


class ComponentFacts(Document):
    """One pipeline component. `float32_elements` stay in float32 whatever 16-bit dtype is planned."""

    name: str
    kind: ComponentKind
    class_name: str
    elements: Positive
    float32_elements: NonNegative = 0
    buffer_bytes: NonNegative = 0
    """Tables outside the checkpoint that move with the weights (rotary embeddings)."""
    adapter_elements: NonNegative = 0
    """Elements of LoRA factors beside the weights (see `with_adapters`); they live where the weights live."""
    expert: NonNegative = 0
    """0: runs in every denoising step. n: takes its share of the steps; experts never run together."""
    sliced_elements: NonNegative = 0
    """Of a text encoder: elements that tensor parallelism slices; 0 where its class has no plan."""
    slices: NonNegative = 0
    """Of a text encoder: the number of ranks that slice it divides this (its key and value heads)."""
    blocks: tuple[BlockGroup, ...] = ()
    default_dtype: DtypeName = "bfloat16"
    stored_bytes: NonNegative | None = None
    correct_residencies: tuple[ResidencyMode, ...] = ("resident", "component")

    def bytes(self, dtype: DtypeName) -> int:
        """Weight bytes when loaded in `dtype`, adapters and modules kept in float32 counted as such."""
        return _bytes(self.elements + self.adapter_elements, self.float32_elements, dtype) + self.buffer_bytes

    def block_bytes(self, dtype: DtypeName) -> int:
        """Bytes of the largest repeated block; 0 when the component has none."""
        return max((_bytes(g.elements, g.float32_elements, dtype) for g in self.blocks), default=0)

    def unit_bytes(self, dtype: DtypeName, blocks_per_unit: int) -> int:
        """Bytes of the largest unit of `blocks_per_unit` consecutive blocks; a unit never crosses groups."""
        sizes = ((g, _bytes(g.elements, g.float32_elements, dtype)) for g in self.blocks)
        return max((size * min(g.count, blocks_per_unit) for g, size in sizes), default=0)

    def unit_count(self, blocks_per_unit: int) -> int:
        """Units that the blocks make up: what is gathered or streamed at once."""
        return sum(-(-g.count // blocks_per_unit) for g in self.blocks)

    @property
    def block_count(self) -> int:
        """Number of repeated blocks over all groups."""
        return sum(group.count for group in self.blocks)

    def all_blocks_bytes(self, dtype: DtypeName) -> int:
        """Bytes of all repeated blocks together."""
        return sum(_bytes(g.elements, g.float32_elements, dtype) * g.count for g in self.blocks)


class SizeRule(Document):
    """Sizes that the family can draw: pixels in multiples, frames = k x `frame_multiple` + 1."""

    multiple: Positive = 16
    frame_multiple: NonNegative = 0
    """0 means a single picture."""


class ForwardBytes(Document):
    """Memory of one transformer forward beside its weights, for 16-bit activations.

    Allocated = fixed + `bytes_per_token` x tokens; reserved beyond that = `gap_fixed_bytes` +
    `gap_share` x the token part. Tokens are weighted: see `DenoiseFacts.text_token_weight`.
    """

    fixed_bytes: float
    """Inputs, tables and library workspaces that are there before the first block runs."""
    bytes_per_token: float
    gap_fixed_bytes: float = 0.0
    gap_share: float


class DenoiseFacts(Document):
    """Cost of one transformer forward. A token covers `token_pixels` squared and `token_frames` frames.

    FLOPs: `matmul_flops_per_token` x (image + joint text tokens) + `attention_flops_per_pair` x pairs.
    Seconds are the reference device's (see `planning.time_model`).
    """

    token_pixels: Positive
    token_frames: Positive = 1
    text_tokens: Positive
    """Tokens of a usual prompt."""
    text_joins_attention: bool
    text_token_weight: float = 1.0
    """Activation bytes of a joint text token against an image token's."""
    condition_tokens: NonNegative = 0
    """Tokens of reference pictures, appended to the image's whatever its size."""
    guidance_in_one_batch: bool = False
    """Both guidance passes run as one batch of two on a rank, as the pipeline's own loop does."""
    heads: Positive
    matmul_flops_per_token: float
    attention_flops_per_pair: float
    eager: ForwardBytes
    compiled: ForwardBytes
    launch_seconds: float
    """Least time of an eager forward: what the CPU needs to launch its kernels."""
    compiled_launch_seconds: float = 0.0
    elementwise_seconds_per_token: float
    compiled_elementwise_seconds_per_token: float
    tensor_sharded_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0


class DecodeFacts(Document):
    """Cost of decoding latents, whole or in overlapping tiles, for 16-bit activations.

    Whole: fixed + pixels x `bytes_per_pixel` (one latent frame's worth of activations) + the output so far.
    In tiles: one tile beside the tiles already kept, then their blending and the result.
    """

    fixed_bytes: float = 0.0
    bytes_per_pixel: float
    bytes_per_pixel_frame: float = 0.0
    """Activations of classes that decode all frames together."""
    output_bytes_per_pixel_frame: float = 6.0
    """Three 16-bit channels."""
    gap_fixed_bytes: float = 0.0
    gap_fraction: float
    tiled_gap_fraction: float
    seconds_fixed: float = 0.0
    seconds_per_pixel_frame: float
    launch_seconds: float
    """Least time of decoding one tile of one latent frame."""
    frames_at_once: Positive = 1
    """Frames that one latent frame becomes."""
    tile_size: Positive | None = None
    """The class's own tile; None where it cannot tile."""
    tile_sizes: tuple[Positive, ...] = ()
    """Tile sizes worth weighing, the smallest first."""


class TextFacts(Document):
    """Cost of encoding one prompt of `tokens` tokens (the longest that the pipeline takes)."""

    tokens: Positive
    fixed_bytes: float = 0.0
    bytes_per_token: float
    gap_bytes: float = 0.0
    launch_seconds: float
    flops: float


class ModelFacts(Document):
    """Everything the planner knows of one model."""

    schema_version: Literal["diffusion-operator.io/model-facts/v1"] = Field(FACTS_SCHEMA, alias="schema")
    model: ModelRef
    components: Annotated[tuple[ComponentFacts, ...], Field(min_length=1)]
    guided_by_default: bool
    default_shape: Shape
    sizes: SizeRule = SizeRule()
    denoise: DenoiseFacts
    decode: DecodeFacts
    text: TextFacts
    correct_axes: tuple[LayoutAxis, ...]
    proven_axes: tuple[LayoutAxis, ...]
    correct_dtypes: tuple[DtypeName, ...] = ("bfloat16", "float32")
    resident_safe_after_fsdp: tuple[str, ...] = ()
    compile_proven: bool = False
    unchecked: tuple[str, ...] = ()
    """Components whose totals come from a named source instead of an instantiation of the locked class."""
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def component(self, name: str) -> ComponentFacts:
        """The component of that name; KeyError names the known ones."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(f"{name!r} is not one of {', '.join(self.component_names)}")

    def with_adapters(self, elements: Mapping[str, int]) -> ModelFacts:
        """These facts with LoRA factors of so many elements beside the named components."""
        for name in elements:
            self.component(name)
        return self.model_copy(
            update={
                "components": tuple(
                    c.model_copy(update={"adapter_elements": c.adapter_elements + elements.get(c.name, 0)})
                    for c in self.components
                )
            }
        )

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names in pipeline order."""
        return tuple(component.name for component in self.components)


def _bytes(elements: int, float32_elements: int, dtype: DtypeName) -> int:
    if dtype == "float32":
        return elements * 4
    return (elements - float32_elements) * DTYPE_BYTES[dtype] + float32_elements * 4
