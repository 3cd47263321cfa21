"""From a plan's model reference to a checked folder: found, right family, classes allowed, weights whole.

Torch-free, so that the parent refuses a bad folder before it starts a rank. `models` counts the weights; here
the rest of the pipeline is held against the classes this engine builds. Loads nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_runtime.models import mova
from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.models.folder import class_of, is_beside, read_index
from diffusion_runtime.planning.documents import ComponentKind, Execution, Layout, ModelRef
from diffusion_runtime.planning.errors import BadModelFolder
from diffusion_runtime.planning.facts import SLICEABLE_ENCODERS, LayoutAxis

from .allowed import FAMILIES, AllowedFamily
from .refusal import EngineRefusal

BUILT_IN_VARIABLE = "DIFFUSION_BUILTIN_MODELS"
BUILT_IN_DEFAULT = "/opt/diffusion/models"
BROKEN_FOLDER = "InvalidSpec"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that passed every check. Width and height must be multiples of `pixel_multiple`.

    `blocks`: per component with repeated blocks, where they are and how many, in order of use.
    `heads`: attention heads of the transformer. `layouts`: what its family can be split by. `kinds`: of
    every component with weights. `classes`: of every part that the folder has. `settings`: the pipeline's
    own, from model_index.json.
    `encoder_slices`: of every text encoder that ranks can slice, what their number must divide.
    `frame_multiple`: frames are a multiple of it plus one; 0 for single pictures.
    """

    path: Path
    family: AllowedFamily
    pixel_multiple: int
    kinds: dict[str, ComponentKind]
    blocks: dict[str, tuple[tuple[str, int], ...]]
    heads: int
    layouts: tuple[LayoutAxis, ...]
    classes: dict[str, str]
    settings: dict[str, Any]
    frame_multiple: int
    encoder_slices: dict[str, int]

    @property
    def input_images(self) -> tuple[int, int]:
        """Pictures that a request brings, at least and at most."""
        optional = self.family.picture_setting
        return (0, 1) if optional and self.settings.get(optional) else self.family.input_images


def built_in_folder(name: str) -> Path:
    """Where the image keeps this built-in model; EngineRefusal (UnknownModel) when it has none."""
    root = Path(os.environ.get(BUILT_IN_VARIABLE, BUILT_IN_DEFAULT))
    known = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if name not in known:
        names = ", ".join(known) or "none"
        raise EngineRefusal("UnknownModel", f"{root} holds no built-in model {name!r}; it holds: {names}.")
    return root / name


def locate(model: ModelRef) -> Path:
    """The folder a plan's model lies in. EngineRefusal (NotSupportedYet) for what nothing draws."""
    if model.family == mova.NAME:
        raise EngineRefusal(
            "NotSupportedYet", f"{model.name} can be planned but not drawn: {mova.NOT_DRAWN}."
        )
    if model.source == "builtIn":
        return built_in_folder(model.name)
    if model.source == "path":
        if model.path is None:
            raise EngineRefusal("PlanMismatch", "model.source is path but the plan has no model.path.")
        return Path(model.path)
    raise EngineRefusal(
        "NotSupportedYet",
        f"model.source {model.source!r} is not executed by this engine version; it loads builtIn and path.",
    )


def open_folder(path: Path) -> ModelFolder:
    """Check a diffusers pipeline folder; reads JSON files and safetensors headers, nothing else.

    Raises EngineRefusal with a sentence that names the file: missing, truncated, or of another class.
    """
    try:
        index = read_index(path)
        facts = facts_from_folder(path)
    except BadModelFolder as error:
        raise EngineRefusal(BROKEN_FOLDER, str(error)) from error
    family = _family_of(path, index)
    classes = _check_parts(path, index, family)
    kinds = {component.name: component.kind for component in facts.components}
    blocks = {
        component.name: tuple((group.path, group.count) for group in component.blocks)
        for component in facts.components
        if component.blocks
    }
    return ModelFolder(
        path=path,
        family=family,
        pixel_multiple=facts.sizes.multiple,
        kinds=kinds,
        blocks=blocks,
        heads=facts.denoise.heads,
        layouts=facts.correct_axes,
        classes=classes,
        settings={name: index[name] for name in family.settings if name in index},
        frame_multiple=facts.sizes.frame_multiple,
        encoder_slices={part.name: part.slices for part in facts.components if part.slices},
    )


def check_plan_is_for(folder: ModelFolder, family: str, execution: Execution) -> None:
    """EngineRefusal (PlanMismatch) when the plan was made for another model than the one in the folder."""
    _check_components(folder, family, execution)
    _check_layout(folder, execution.layout)
    if folder.family.one_dtype and len(set(execution.dtype.values())) > 1:
        raise EngineRefusal(
            "PlanMismatch",
            f"The plan's dtype differs between components, but {folder.family.pipeline_class} draws with all "
            "of them in one: set the same for each.",
        )
    for name, residency in execution.residency.items():
        count = sum(blocks for _, blocks in folder.blocks.get(name, ()))
        if residency.mode == "layerwise" and (count == 0 or residency.resident_blocks > count):
            raise EngineRefusal(
                "PlanMismatch",
                f"residency.{name}.residentBlocks={residency.resident_blocks} of layerwise residency, but "
                f"{name} in {folder.path} has {count} repeated blocks.",
            )


def _check_layout(folder: ModelFolder, layout: Layout) -> None:
    degrees: dict[LayoutAxis, int] = {
        "cfg": layout.cfg,
        "ulysses": layout.ulysses,
        "ring": layout.ring,
        "tensor": layout.tensor,
        "fsdp": layout.ranks if layout.fsdp else 1,
    }
    if layout.text_encoder_tensor:
        _check_slices(folder, layout.ranks)
    for axis, degree in degrees.items():
        if degree > 1 and axis not in folder.layouts:
            raise EngineRefusal(
                "LayoutUnsupported",
                f"The plan splits {folder.path} by {axis}, which {folder.family.family} models cannot be "
                f"split by; they can by {', '.join(folder.layouts)}.",
            )
        if axis in ("ulysses", "tensor") and folder.heads % degree:
            raise EngineRefusal(
                "PlanMismatch",
                f"layout.{axis}={degree} does not divide the {folder.heads} attention heads of "
                f"{folder.path}.",
            )


def _check_slices(folder: ModelFolder, ranks: int) -> None:
    if not folder.encoder_slices:
        raise EngineRefusal(
            "LayoutUnsupported",
            f"layout.textEncoderTensor=true, but no text encoder of {folder.path} has a tensor plan; "
            f"these have: {', '.join(SLICEABLE_ENCODERS)}.",
        )
    for name, slices in folder.encoder_slices.items():
        if slices % ranks:
            raise EngineRefusal(
                "PlanMismatch",
                f"layout.textEncoderTensor=true over {ranks} ranks, which do not divide the {slices} key and "
                f"value heads of {name} in {folder.path}.",
            )


def _check_components(folder: ModelFolder, family: str, execution: Execution) -> None:
    if family != folder.family.family:
        raise EngineRefusal(
            "PlanMismatch",
            f"The plan is for {family!r} but {folder.path} holds {folder.family.family!r}.",
        )
    for field, planned in (("residency", set(execution.residency)), ("dtype", set(execution.dtype))):
        held = sorted(folder.kinds)
        if planned != folder.kinds.keys():
            raise EngineRefusal(
                "PlanMismatch",
                f"The plan's {field} names {sorted(planned)}, {folder.path} holds {held}.",
            )


def _family_of(path: Path, index: dict[str, Any]) -> AllowedFamily:
    name = index.get("_class_name")
    for family in FAMILIES.values():
        if family.pipeline_class == name:
            return family
    known = ", ".join(family.pipeline_class for family in FAMILIES.values())
    raise EngineRefusal(
        "NotSupportedYet", f"{path} is a {name!r} pipeline; this engine version builds: {known}."
    )


def _check_parts(path: Path, index: dict[str, Any], family: AllowedFamily) -> dict[str, str]:
    """The class of every part that the folder has."""
    listed = {
        name: value
        for name, value in index.items()
        if not name.startswith("_") and isinstance(value, list) and value != [None, None]
    }
    listed |= {
        name: [part.library, class_of(path / name)]
        for name, part in family.parts.items()
        if part.beside and name not in index and is_beside(path / name)
    }
    needed = {name for name, part in family.parts.items() if not part.optional}
    if not needed <= listed.keys() <= family.parts.keys():
        raise EngineRefusal(
            BROKEN_FOLDER,
            f"{path / 'model_index.json'} lists {sorted(listed)} but {family.pipeline_class} is built from "
            f"{sorted(family.parts)}.",
        )
    for name, value in listed.items():
        part = family.parts[name]
        allowed = [[part.library, class_name] for class_name in (part.class_name, *part.also)]
        if value not in allowed:
            raise EngineRefusal(
                BROKEN_FOLDER,
                f"{path / 'model_index.json'} builds {name} from {value}; "
                f"this engine allows only {' or '.join(str(choice) for choice in allowed)}.",
            )
        if not (path / name).is_dir():
            raise EngineRefusal(
                BROKEN_FOLDER, f"{path / name} is missing although model_index.json lists it."
            )
    return {name: str(class_name) for name, (_, class_name) in listed.items()}
