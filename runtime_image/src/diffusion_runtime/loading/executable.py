"""What of a plan this engine version executes. A plan is followed to the letter or refused, never
approximated.

Torch-free: the parent asks before it starts a rank, for the plan and for each of its fallbacks.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from diffusion_runtime.planning.documents import PLAN_SCHEMA, Execution, Plan

from .refusal import EngineRefusal

EXECUTED = (
    "one rank or cfg 2, residency resident and component, eager blocks, native attention, "
    "tiled or whole VAE decoding"
)


def read_plan(path: Path) -> Plan:
    """The plan in a file; EngineRefusal (PlanMismatch) naming the schema or the field that is wrong."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise EngineRefusal("PlanMismatch", f"Plan file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise EngineRefusal("PlanMismatch", f"Plan file {path} is not valid JSON ({error}).") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != PLAN_SCHEMA:
        raise EngineRefusal(
            "PlanMismatch", f"Plan file {path} has schema {schema!r}; this engine knows {PLAN_SCHEMA!r}."
        )
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise EngineRefusal("PlanMismatch", f"Plan file {path}: field {field}: {first['msg']}.") from error


def check_executable(execution: Execution) -> None:
    """EngineRefusal (LayoutUnsupported) naming the first setting that this version does not execute."""
    unsupported = _first_unsupported(execution)
    if unsupported is not None:
        raise EngineRefusal(
            "LayoutUnsupported", f"The plan asks for {unsupported}; this engine executes {EXECUTED}."
        )


def is_executable(execution: Execution) -> bool:
    """Whether `check_executable` lets it pass."""
    return _first_unsupported(execution) is None


def _first_unsupported(execution: Execution) -> str | None:
    layout = execution.layout
    axes = {"ulysses": layout.ulysses, "ring": layout.ring, "tensor": layout.tensor}
    for axis, ranks in axes.items():
        if ranks != 1:
            return f"layout.{axis}={ranks}"
    if layout.fsdp:
        return "layout.fsdp=true"
    if layout.cfg not in (1, 2):
        return f"layout.cfg={layout.cfg}"
    if layout.ranks != execution.gpus_per_replica:
        return f"gpusPerReplica={execution.gpus_per_replica} with a layout of {layout.ranks} ranks"
    for component, residency in sorted(execution.residency.items()):
        if residency.mode not in ("resident", "component"):
            return f"residency.{component}.mode={residency.mode}"
    if execution.compile.enabled:
        return "compile.enabled=true"
    if execution.attention.backend != "native":
        return f"attention.backend={execution.attention.backend}"
    return None
