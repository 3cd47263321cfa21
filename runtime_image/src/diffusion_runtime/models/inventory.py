"""What was counted of a pipeline: per component its class, config and elements. Input of every family's
facts.

An inventory comes from a folder's headers or is declared for a published model. It holds no opinion about
layouts.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.planning.documents import Document, NonNegative, Positive
from diffusion_runtime.planning.facts import BlockGroup


class Part(Document):
    """One component: pipeline attribute, class, the config keys it was built from, and its exact element
    counts.
    """

    name: str
    class_name: str
    config: dict[str, Any]
    elements: Positive
    float32_elements: NonNegative = 0
    blocks: tuple[BlockGroup, ...] = ()
    stored_bytes: NonNegative | None = None


class Inventory(Document):
    """All weighty components of one pipeline, in pipeline order."""

    pipeline: str
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """The component of that name; KeyError when it is missing."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)
