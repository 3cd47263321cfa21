"""The built-in demo model: a tiny Qwen-Image pipeline. Its counted sizes live in demo_inventory.json,
nowhere else.

`python -m diffusion_runtime.models.demo FOLDER` counts the folder again and rewrites that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffusion_runtime.models import qwen_image
from diffusion_runtime.models.folder import count_folder, read_index
from diffusion_runtime.models.inventory import Inventory
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import ModelFacts

MODEL_ID = "demo"
DEFAULT_SHAPE = Shape(width=128, height=128, steps=12)
INVENTORY_FILE = Path(__file__).with_name("demo_inventory.json")


def demo_facts() -> ModelFacts:
    """Facts of the demo model, from its declared inventory."""
    inventory = Inventory.model_validate_json(INVENTORY_FILE.read_text(encoding="utf-8"))
    model = ModelRef(name=MODEL_ID, family=qwen_image.NAME, source="builtIn")
    return qwen_image.build(inventory, model, DEFAULT_SHAPE)


def write_inventory(folder: Path) -> None:
    """Count `folder` and declare the result."""
    inventory = count_folder(folder, qwen_image.FAMILY, read_index(folder))
    INVENTORY_FILE.write_text(inventory.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n")


if __name__ == "__main__":
    write_inventory(Path(sys.argv[1]))
