"""The shape of a family file: which classes it allows, how weights are counted, how facts are made of an
inventory.

One instance per family, in a module of its own. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diffusion_runtime.models.inventory import Inventory
from diffusion_runtime.planning.documents import ComponentKind, ModelRef, Shape
from diffusion_runtime.planning.facts import ModelFacts


@dataclass(frozen=True)
class ComponentRule:
    """One component: allowed classes, kind, where its repeated blocks are, what it keeps in float32."""

    kind: ComponentKind
    classes: tuple[str, ...]
    block_paths: tuple[str, ...] = ()
    layers_key: str | None = None
    """Config key that says how many blocks there must be."""
    kept_float32: tuple[str, ...] = ()
    """Module names that diffusers keeps in float32 (its `_keep_in_fp32_modules`)."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Tensor name -> the tensor it shares storage with; counted once."""


@dataclass(frozen=True)
class Family:
    """A model family: pipelines it serves, its components, and the function from inventory to facts."""

    name: str
    pipelines: tuple[str, ...]
    components: Mapping[str, ComponentRule]
    build: Callable[[Inventory, ModelRef, Shape | None], ModelFacts]
    ignored: tuple[str, ...] = ("scheduler", "tokenizer", "processor", "feature_extractor")
