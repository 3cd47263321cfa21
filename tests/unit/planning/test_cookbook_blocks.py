"""How repeated blocks are found, in the cookbook's order: rule, direct entries, classes, common paths."""

from __future__ import annotations

from diffusion_runtime.models.blocks import find_blocks


def entries(path: str, count: int, **tensors: int) -> dict[str, int]:
    """Tensors of `count` numbered blocks under a path."""
    return {f"{path}.{n}.{name}": size for n in range(count) for name, size in tensors.items()}


def test_direct_repeated_entries_are_preferred() -> None:
    tensors = entries("transformer_blocks", 3, weight=4) | entries("refiner.layers", 2, weight=4)
    assert find_blocks(tensors).paths == ("transformer_blocks",)
    assert find_blocks(entries("blocks", 2, weight=4) | {"head.weight": 8}).paths == ("blocks",)
    assert find_blocks(tensors, explicit=("refiner.layers",)).paths == ("refiner.layers",)


def test_block_classes_and_common_paths_are_the_last_resorts() -> None:
    tensors = entries("encoder.layers", 2, weight=4) | entries("stages", 2, weight=4)
    classes = {f"stages.{n}": "Stage" for n in range(2)} | {f"encoder.layers.{n}": "Layer" for n in range(2)}
    by_class = find_blocks(tensors, block_classes=("Stage",), module_classes=classes)
    assert (by_class.rule, by_class.paths) == ("class", ("stages",))
    by_path = find_blocks(tensors, block_classes=("Other",), module_classes=classes)
    assert (by_path.rule, by_path.paths) == ("numbered", ("encoder.layers",))
