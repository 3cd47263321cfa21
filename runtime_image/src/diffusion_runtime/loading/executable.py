"""What of a plan this engine version executes. A plan is followed to the letter or refused, never
approximated.

Torch-free: the parent asks before it starts a rank, for the plan and for each of its fallbacks.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from diffusion_runtime.planning.documents import PLAN_SCHEMA, Execution, Plan

from .attention import BACKENDS
from .refusal import EngineRefusal

EXECUTED = (
    "one rank, cfg 2, ulysses or ring, tensor, fsdp over all ranks of these but tensor, and text encoders "
    "sliced over all ranks of these; residency "
    "resident and component, "
    "layerwise for transformers; eager or compiled blocks; attention native, cudnn, flash or flash4 "
    "(the latter on whole sequences); tiled or whole VAE decoding"
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
    if execution.attention.backend not in BACKENDS:
        return f"attention.backend={execution.attention.backend}"
    if execution.attention.backend == "flash4":
        for axis in ("ulysses", "ring"):
            if getattr(execution.layout, axis) > 1:
                return f"attention.backend=flash4 with layout.{axis}={getattr(execution.layout, axis)}"
    return _unsupported_layout(execution) or _unsupported_residency(execution)


def _unsupported_layout(execution: Execution) -> str | None:
    layout = execution.layout
    if layout.ring > 1 and layout.ulysses > 1:
        return f"layout.ring={layout.ring} with layout.ulysses={layout.ulysses}"
    if layout.tensor > 1 and execution.compile.enabled:
        return f"compile.enabled=true with layout.tensor={layout.tensor}"
    if layout.tensor > 1 and layout.fsdp:
        return f"layout.tensor={layout.tensor} with layout.fsdp=true"
    if layout.cfg not in (1, 2):
        return f"layout.cfg={layout.cfg}"
    if layout.ranks != execution.gpus_per_replica:
        return f"gpusPerReplica={execution.gpus_per_replica} with a layout of {layout.ranks} ranks"
    if layout.fsdp and layout.ranks == 1:
        return "layout.fsdp=true on one rank"
    if layout.text_encoder_tensor and layout.ranks == 1:
        return "layout.textEncoderTensor=true on one rank"
    return None


def _unsupported_residency(execution: Execution) -> str | None:
    for component, residency in sorted(execution.residency.items()):
        transformer = component.startswith("transformer")
        if residency.mode == "layerwise" and not transformer:
            return f"residency.{component}.mode=layerwise"
        if transformer and residency.mode != "resident":
            if execution.layout.fsdp:
                return f"residency.{component}.mode={residency.mode} with layout.fsdp=true"
            if execution.layout.tensor > 1:
                return f"residency.{component}.mode={residency.mode} with layout.tensor"
    return None
