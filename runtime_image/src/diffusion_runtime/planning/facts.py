"""What the planner must know of one model: sizes, shapes, costs, and what is correct and proven for it.

Pure data, handed in by `models`. Elements are counted exactly (from safetensors headers or a meta-device
instantiation); activation coefficients are fitted on measurements. Nothing here looks at a GPU.
"""

from __future__ import annotations

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


class ComponentFacts(Document):
    """One pipeline component. `float32_elements` stay in float32 whatever 16-bit dtype is planned."""

    name: str
    kind: ComponentKind
    class_name: str
    elements: Positive
    float32_elements: NonNegative = 0
    buffer_bytes: NonNegative = 0
    """Tables outside the checkpoint that move with the weights (rotary embeddings)."""
    blocks: tuple[BlockGroup, ...] = ()
    default_dtype: DtypeName = "bfloat16"
    stored_bytes: NonNegative | None = None
    correct_residencies: tuple[ResidencyMode, ...] = ("resident", "component")

    def bytes(self, dtype: DtypeName) -> int:
        """Weight bytes when loaded in `dtype`, modules kept in float32 counted so."""
        return _bytes(self.elements, self.float32_elements, dtype) + self.buffer_bytes

    def block_bytes(self, dtype: DtypeName) -> int:
        """Bytes of the largest repeated block; 0 when the component has none."""
        return max((_bytes(g.elements, g.float32_elements, dtype) for g in self.blocks), default=0)

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


class DenoiseFacts(Document):
    """Cost of one transformer forward. A token covers `token_pixels` squared and `token_frames` frames.

    FLOPs: `matmul_flops_per_token` x (image + joint text tokens) + `attention_flops_per_pair` x pairs.
    Bytes are for 16-bit activations. Seconds are the reference device's (see `planning.time_model`).
    """

    token_pixels: Positive
    token_frames: Positive = 1
    text_tokens: Positive
    text_joins_attention: bool
    heads: Positive
    matmul_flops_per_token: float
    attention_flops_per_pair: float
    fixed_bytes: float = 0.0
    bytes_per_token: float
    compiled_fixed_bytes: float = 0.0
    compiled_bytes_per_token: float
    gap_fixed_bytes: float = 0.0
    gap_bytes_per_token: float
    compiled_gap_fixed_bytes: float = 0.0
    compiled_gap_bytes_per_token: float
    launch_seconds: float
    elementwise_seconds_per_token: float
    compiled_elementwise_seconds_per_token: float
    tensor_sharded_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0


class DecodeFacts(Document):
    """Cost of decoding latents: per pixel of one frame and per pixel and frame, for 16-bit activations."""

    fixed_bytes: float = 0.0
    bytes_per_pixel: float
    bytes_per_pixel_frame: float = 0.0
    gap_fixed_bytes: float = 0.0
    gap_fraction: float
    seconds_fixed: float = 0.0
    seconds_per_pixel_frame: float
    tile_size: Positive | None = None
    tiled_bytes_per_pixel_frame: float = 0.0
    tiled_time_factor: float = 1.0


class TextFacts(Document):
    """Cost of encoding one prompt of `tokens` tokens."""

    tokens: Positive
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
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def component(self, name: str) -> ComponentFacts:
        """The component of that name; KeyError names the known ones."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(f"{name!r} is not one of {', '.join(self.component_names)}")

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names in pipeline order."""
        return tuple(component.name for component in self.components)


def _bytes(elements: int, float32_elements: int, dtype: DtypeName) -> int:
    if dtype == "float32":
        return elements * 4
    return (elements - float32_elements) * DTYPE_BYTES[dtype] + float32_elements * 4
