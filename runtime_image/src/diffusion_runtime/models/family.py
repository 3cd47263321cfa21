"""The shape of a family file: which classes it allows, how weights are counted, how facts are made of an
inventory.

One instance per family, in a module of its own. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diffusion_runtime.models.encoders import sliceable
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.planning.documents import (
    ComponentKind,
    DtypeName,
    ModelRef,
    ResidencyMode,
    Shape,
)
from diffusion_runtime.planning.facts import SLICEABLE_ENCODERS, ComponentFacts, ModelFacts

MOVED_WHOLE: tuple[ResidencyMode, ...] = ("resident", "component")
COMPILED_LAUNCH_SECONDS_PER_BLOCK = 0.15e-3
"""About thirty fused kernels of 5 us each: an estimate, no small compiled forward was measured."""
STREAMABLE: tuple[ResidencyMode, ...] = ("resident", "component", "layerwise")


@dataclass(frozen=True)
class ComponentRule:
    """One component: allowed classes, kind, where its repeated blocks are, what it keeps in float32."""

    kind: ComponentKind
    classes: tuple[str, ...]
    block_paths: tuple[str, ...] = ()
    """Explicit sharding rule; without one, blocks of a transformer are discovered (see `blocks`)."""
    block_classes: tuple[str, ...] = ()
    """The class's own `_repeated_blocks`, for discovery where modules are known."""
    layers_keys: tuple[str, ...] = ()
    """Config keys whose sum says how many blocks there must be."""
    kept_float32: tuple[str, ...] = ()
    """Module names that diffusers keeps in float32 (its `_keep_in_fp32_modules`)."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Tensor name -> the tensor it shares storage with; counted once."""
    residencies: tuple[ResidencyMode, ...] = MOVED_WHOLE
    default_dtype: DtypeName = "bfloat16"
    expert: int = 0
    """Which expert of a pipeline that switches transformers between steps; 0 runs in every step."""
    optional: bool = False
    """A pipeline may come without it."""
    beside: bool = False
    """It is for a further pipeline: model_index.json need not list it, a folder of its name is enough."""


@dataclass(frozen=True)
class Family:
    """A model family: pipelines it serves, its components, and the function from inventory to facts."""

    name: str
    pipelines: tuple[str, ...]
    components: Mapping[str, ComponentRule]
    build: Callable[[Inventory, ModelRef, Shape | None], ModelFacts]
    ignored: tuple[str, ...] = ("scheduler", "tokenizer", "processor", "feature_extractor")


def component_facts(part: Part, rule: ComponentRule, buffer_bytes: int = 0) -> ComponentFacts:
    """What the planner needs of one counted component."""
    sliced, slices = sliceable(part.config) if part.class_name in SLICEABLE_ENCODERS else (0, 0)
    return ComponentFacts(
        name=part.name,
        kind=rule.kind,
        class_name=part.class_name,
        elements=part.elements,
        float32_elements=part.float32_elements,
        buffer_bytes=buffer_bytes,
        expert=rule.expert,
        blocks=part.blocks,
        default_dtype=rule.default_dtype,
        stored_bytes=part.stored_bytes,
        sliced_elements=sliced,
        slices=slices,
        correct_residencies=rule.residencies,
    )
