"""Measurements that replace the formulas: what one candidate really took on one GPU product.

A calibration is data: one JSON file each, in a folder. It holds for exactly one model revision, product,
execution (layout, residency, dtype, compile, tiles) and shape. Nothing is measured or interpolated here.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from diffusion_runtime.planning.documents import (
    CALIBRATION_SCHEMA,
    Document,
    Execution,
    Layout,
    PhaseMeasurement,
    Positive,
    Shape,
)
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import LayoutAxis

Seconds = Annotated[float, Field(gt=0)]
PHASES = ("load", "text", "denoise", "decode")


class Versions(Document):
    """Software that a measurement was made with, or that will run; absent is unknown."""

    engine: str | None = None
    torch: str | None = None
    driver: str | None = None


UNKNOWN_VERSIONS = Versions()


class Calibration(Document):
    """One measured candidate. Peaks are the highest of all ranks, as the driver shows them; seconds are
    medians.
    """

    schema_version: Literal["diffusion-operator.io/calibration/v1"] = Field(
        CALIBRATION_SCHEMA, alias="schema"
    )
    model: str
    revision: str | None = None
    gpu_product: str
    execution: Execution
    shape: Shape
    guidance: bool
    versions: Versions
    peak_per_gpu_bytes: Positive
    phases: dict[Literal["load", "text", "denoise", "decode"], PhaseMeasurement] = Field(default_factory=dict)
    """Peaks by phase where they were taken; their seconds are of that phase."""
    per_forward_seconds: Seconds
    per_step_seconds: Seconds
    per_request_seconds: Seconds

    @property
    def axes(self) -> tuple[LayoutAxis, ...]:
        """Axes of the layout that was measured."""
        layout = self.execution.layout
        names: tuple[LayoutAxis, ...] = ("cfg", "ulysses", "ring", "tensor")
        used: list[LayoutAxis] = [axis for axis in names if getattr(layout, axis) > 1]
        return (*used, "fsdp") if layout.fsdp else tuple(used)

    def differences(self, running: Versions) -> tuple[str, ...]:
        """`torch 2.11.0 (measured with 2.10.0)` for every version that is known on both sides and differs."""
        pairs = ((n, getattr(running, n), getattr(self.versions, n)) for n in Versions.model_fields)
        return tuple(
            f"{n} {now} (measured with {then})" for n, now, then in pairs if now and then and now != then
        )


def layout_key(layout: Layout) -> tuple[int, ...]:
    """The degrees of a layout, for comparing without documents."""
    degrees = (layout.cfg, layout.ulysses, layout.ring, layout.tensor)
    return (*degrees, layout.fsdp, layout.fsdp_blocks_per_unit, layout.text_encoder_tensor)


def execution_key(execution: Execution) -> Hashable:
    """What makes two executions the same candidate, component order aside (see `Weighed.key`)."""
    streamed = max(
        (r.resident_blocks for r in execution.residency.values() if r.mode == "layerwise"), default=0
    )
    return (
        layout_key(execution.layout),
        frozenset((name, r.mode) for name, r in execution.residency.items()),
        streamed,
        frozenset(execution.dtype.items()),
        execution.compile.enabled,
        execution.attention.backend,
        execution.vae.tile_size if execution.vae.tiling else None,
    )


def read_calibrations(folder: Path) -> tuple[Calibration, ...]:
    """Every `*.json` of a folder, by name. Raises BadRequest naming the file and what is wrong in it."""
    if not folder.is_dir():
        raise BadRequest("calibrations", f"--calibrations {folder} is not a folder.")
    return tuple(_read(path) for path in sorted(folder.glob("*.json")))


def _read(path: Path) -> Calibration:
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        message = f"{path} is no calibration: {where}: {first['msg']}."
        raise BadRequest("calibrations", message) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest("calibrations", f"{path} cannot be read: {error}.") from error
