"""The JSON documents that planner, operator and engine exchange.

They are the contract between processes, so they are frozen, refuse unknown keys and carry a `schema` version.
No decision is made here: `search` decides, `explain` words it, the engine executes it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PLAN_SCHEMA: Final = "diffusion-operator.io/plan/v1"
FACTS_SCHEMA: Final = "diffusion-operator.io/model-facts/v1"
DEVICE_SCHEMA: Final = "diffusion-operator.io/device/v1"
WORKLOAD_SCHEMA: Final = "diffusion-operator.io/workload/v1"
REPORT_SCHEMA: Final = "diffusion-operator.io/engine-report/v1"
CALIBRATION_SCHEMA: Final = "diffusion-operator.io/calibration/v1"

ModeName = Literal["manual", "auto", "speed", "memory"]
Objective = Literal["balanced", "latency", "throughput"]
ResidencyMode = Literal["resident", "component", "layerwise"]
DtypeName = Literal["bfloat16", "float16", "float32"]
DeviceKind = Literal["cuda", "cpu"]
PlanSource = Literal["measured", "calibrated", "formula"]
ComponentKind = Literal["transformer", "textEncoder", "imageEncoder", "vae", "vocoder", "upsampler", "other"]

NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Document(BaseModel):
    """Frozen, camelCase on the wire, snake_case in Python, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    def to_json(self) -> str:
        """Stable text: sorted keys, no nulls."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types under wire names, without nulls."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class Shape(Document):
    """One picture or clip. Pixels, frames (1 for a picture), denoising steps."""

    width: Annotated[int, Field(ge=16, le=16384)]
    height: Annotated[int, Field(ge=16, le=16384)]
    frames: Annotated[int, Field(ge=1, le=10_000)] = 1
    steps: Annotated[int, Field(ge=1, le=1_000)]


class Workload(Document):
    """What is asked of one replica. Memory is planned for the largest shape, time for the first."""

    schema_version: Literal["diffusion-operator.io/workload/v1"] = Field(WORKLOAD_SCHEMA, alias="schema")
    shapes: Annotated[tuple[Shape, ...], Field(max_length=8)] = ()
    guidance: Literal["auto", "on", "off"] = "auto"
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    other_shapes: Literal["uncompiled", "refuse"] = "uncompiled"


class Layout(Document):
    """Ranks per axis; their product is the number of GPUs. `fsdp` shards weights over all of them.

    `text_encoder_tensor` slices the matrices of text encoders that have a plan for it over all of them.
    """

    cfg: Positive = 1
    ulysses: Positive = 1
    ring: Positive = 1
    tensor: Positive = 1
    fsdp: bool = False
    fsdp_blocks_per_unit: Positive = 1
    text_encoder_tensor: bool = False

    @property
    def ranks(self) -> int:
        """Number of processes, one per GPU, when every axis is a separate factor (FSDP alone adds none)."""
        return self.cfg * self.ulysses * self.ring * self.tensor


class Residency(Document):
    """Where one component's weights live. The two counts apply to `layerwise` only."""

    mode: ResidencyMode
    prefetch_blocks: NonNegative = 0
    resident_blocks: NonNegative = 0


class CompileSettings(Document):
    """Whether repeated blocks are compiled."""

    enabled: bool = False


class AttentionSettings(Document):
    """Attention backend by diffusers' name; `native` is torch's own choice."""

    backend: str = "native"


class VaeSettings(Document):
    """Decode in tiles of `tile_size` pixels, or whole (`tiling` false)."""

    tiling: bool = False
    tile_size: Positive | None = None


class ModelRef(Document):
    """Which weights. `source` is `builtIn`, `path`, `huggingFace` or `s3`."""

    name: str
    family: str
    source: Literal["builtIn", "path", "huggingFace", "s3"] = "builtIn"
    path: str | None = None
    revision: str | None = None


class PhaseMemory(Document):
    """Bytes per GPU in one phase; gap is what the allocator reserves beyond what is allocated."""

    weights_bytes: NonNegative
    activation_bytes: NonNegative
    gap_bytes: NonNegative


class Phases(Document):
    """The four phases of a request, `load` included."""

    load: PhaseMemory
    text: PhaseMemory
    denoise: PhaseMemory
    decode: PhaseMemory


class MemoryForecast(Document):
    """Peak = context + allocated + gap, comparable with what the driver shows."""

    peak_per_gpu_bytes: NonNegative
    free_per_gpu_bytes: NonNegative
    host_bytes: NonNegative
    context_bytes: NonNegative
    phases: Phases


class TimeForecast(Document):
    """Predicted seconds: one transformer forward, one denoising step, one whole request."""

    per_forward_seconds: float
    per_step_seconds: float
    per_request_seconds: float


class Rejected(Document):
    """A candidate that lost: by bytes (`shortfall_bytes`) or by time (`slower_seconds`)."""

    layout: Layout
    residency: dict[str, Residency]
    gpus_per_replica: Positive
    reason: str
    shortfall_bytes: NonNegative | None = None
    slower_seconds: float | None = None


class Execution(Document):
    """Everything an engine must do; shared by a plan and its fallbacks."""

    gpus_per_replica: Positive
    device: DeviceKind = "cuda"
    layout: Layout
    residency: dict[str, Residency]
    dtype: dict[str, DtypeName]
    compile: CompileSettings = CompileSettings()
    attention: AttentionSettings = AttentionSettings()
    vae: VaeSettings = VaeSettings()


class Fallback(Execution):
    """A complete alternative with the same GPU count and a lower peak."""

    peak_per_gpu_bytes: NonNegative
    host_bytes: NonNegative | None = None
    hash: str


class Plan(Execution):
    """What was decided and why. `hash` covers only what changes the pod."""

    schema_version: Literal["diffusion-operator.io/plan/v1"] = Field(PLAN_SCHEMA, alias="schema")
    model: ModelRef
    mode: ModeName
    bias: float | None = None
    guidance: bool
    shapes: tuple[Shape, ...]
    concurrency: Positive = 1
    other_shapes: Literal["uncompiled", "refuse"] = "uncompiled"
    gpu_product: str | None = None
    memory: MemoryForecast
    time: TimeForecast
    source: PlanSource
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    rejected: Annotated[tuple[Rejected, ...], Field(max_length=8)] = ()
    overrides: tuple[str, ...] = ()
    fallbacks: Annotated[tuple[Fallback, ...], Field(max_length=4)] = ()
    hash: str


class NoPlan(Document):
    """Nothing fits, or the request cannot be met. `reason` is a CamelCase condition reason."""

    reason: Literal["InsufficientMemory", "InsufficientGPUs", "LayoutUnsupported", "InsufficientHostMemory"]
    message: str
    shortfall_bytes: NonNegative | None = None
    rejected: Annotated[tuple[Rejected, ...], Field(max_length=8)] = ()


class PhaseMeasurement(Document):
    """Peak bytes of one phase on one rank; null where the device reports none."""

    allocated_bytes: NonNegative | None = None
    reserved_bytes: NonNegative | None = None
    driver_bytes: NonNegative | None = None
    seconds: float | None = None


class RankMeasurement(Document):
    """What one rank measured: peak bytes by phase since it started, seconds of the last picture."""

    rank: NonNegative
    phases: dict[str, PhaseMeasurement]
    seconds_per_step: float | None = None


class PlannedFigures(Document):
    """The forecast for what is executed, to stand beside what is measured; null where a fallback has none.

    `phases`: context + weights + activations + gap, comparable with `driverBytes`.
    """

    peak_per_gpu_bytes: NonNegative
    host_bytes: NonNegative | None = None
    phases: dict[str, NonNegative] = Field(default_factory=dict)
    seconds_per_step: float | None = None
    seconds_per_request: float | None = None


class EngineReport(Document):
    """What an engine runs and measured. Ready means `plan_hash` is the plan's; a fallback's hash means
    Degraded.

    `executing_reason` says why a fallback is executed. `phases` holds the worst rank's figures.
    """

    schema_version: Literal["diffusion-operator.io/engine-report/v1"] = Field(REPORT_SCHEMA, alias="schema")
    plan_hash: str
    executing_hash: str
    state: Literal["loading", "ready", "draining", "failed"]
    reason: str | None = None
    message: str | None = None
    device: DeviceKind
    ranks: Positive
    planned_peak_per_gpu_bytes: NonNegative
    load_seconds: float | None = None
    load_idle_seconds: float | None = None
    """Seconds since loading got on last; only while loading."""
    load_stages: dict[str, float] = Field(default_factory=dict)
    """Seconds of the slowest rank: import, build, read, place, warm."""
    loaded_bytes: NonNegative = 0
    """Bytes that all ranks read from files."""
    allocator: str | None = None
    """Settings of torch's caching allocator on the GPU; null on a CPU and where nobody set any."""
    seconds_per_step: float | None = None
    seconds_per_request: float | None = None
    phases: dict[str, PhaseMeasurement] = Field(default_factory=dict)
    rank_group_restarts: NonNegative = 0
    versions: dict[str, str] = Field(default_factory=dict)
    executing_reason: str | None = None
    compiled: bool = False
    planned: PlannedFigures | None = None
    measured_peak_per_gpu_bytes: NonNegative | None = None
    rank_measurements: tuple[RankMeasurement, ...] = ()


EXECUTION_FIELDS = (
    "gpus_per_replica",
    "device",
    "layout",
    "residency",
    "dtype",
    "compile",
    "attention",
    "vae",
)


def execution_hash(execution: Execution) -> str:
    """Twelve hex digits over what an engine executes, nothing that is predicted."""
    return _digest(_hashed(execution))


def plan_hash(
    execution: Execution, model: ModelRef, workload_fields: dict[str, Any], fallbacks: tuple[Fallback, ...]
) -> str:
    """Hash of all that changes the pod: execution, model, shapes and serving settings, fallbacks."""
    document = {
        "execution": _hashed(execution),
        "model": model.to_dict(),
        "workload": workload_fields,
        "fallbacks": [fallback.hash for fallback in fallbacks],
    }
    return _digest(document)


def _hashed(execution: Execution) -> dict[str, Any]:
    """Fields that came later count once they are set, so that plans of before keep their hashes."""
    document = execution.model_dump(by_alias=True, include=set(EXECUTION_FIELDS), mode="json")
    if not execution.layout.text_encoder_tensor:
        del document["layout"]["textEncoderTensor"]
    return document


def _digest(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
