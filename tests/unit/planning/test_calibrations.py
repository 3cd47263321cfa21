"""Calibrations enter as data: they replace formulas, prove layouts, and say what they were measured with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.asking import Nodes, Plans
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.calibrations import Calibration, Versions, read_calibrations
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import EXECUTION_FIELDS, Plan, Shape, Workload, execution_hash
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.search import make_plan

GIB = 2**30
MEASURED_WITH = Versions(engine="0.1.0", torch="2.11.0", driver="580.95")


def calibration_of(plan: Plan, **measured: Any) -> Calibration:
    """As if exactly this plan had been measured."""
    execution = {name: getattr(plan, name).model_dump() if hasattr(getattr(plan, name), "model_dump")
                 else getattr(plan, name) for name in EXECUTION_FIELDS}  # fmt: skip
    execution["residency"] = {name: r.model_dump() for name, r in plan.residency.items()}
    return Calibration.model_validate(
        {
            "model": plan.model.name,
            "gpu_product": "NVIDIA-H200",
            "execution": execution,
            "shape": plan.shapes[0].model_dump(),
            "guidance": plan.guidance,
            "versions": MEASURED_WITH.model_dump(),
            "peak_per_gpu_bytes": 60 * GIB,
            "per_forward_seconds": 0.1,
            "per_step_seconds": 0.2,
            "per_request_seconds": 11.0,
        }
        | measured
    )


def planned(
    node: GpuNode,
    *calibrations: Calibration,
    versions: Versions = MEASURED_WITH,
    steps: int = 50,
    **wishes: Any,
) -> Plan:
    workload = Workload(shapes=(Shape(width=1024, height=1024, steps=steps),))
    found = make_plan(
        facts_for("Qwen/Qwen-Image"),
        workload,
        Intent(**wishes),
        [node],
        calibrations=calibrations,
        versions=versions,
    )
    assert isinstance(found, Plan), found
    return found


def test_a_measurement_replaces_the_formulas(gpus: Nodes) -> None:
    formula = planned(gpus("H200"))
    assert formula.source == "formula"
    found = planned(gpus("H200"), calibration_of(formula))
    assert found.source == "calibrated"
    assert found.memory.peak_per_gpu_bytes == 60 * GIB
    assert (found.time.per_forward_seconds, found.time.per_request_seconds) == (0.1, 11.0)
    assert execution_hash(found) == execution_hash(formula)
    assert any(
        "Measured on NVIDIA-H200 with" in reason and "torch 2.11.0" in reason for reason in found.reasons
    )
    assert not any("other software" in warning for warning in found.warnings)


def test_measured_phases_replace_predicted_ones(gpus: Nodes) -> None:
    formula = planned(gpus("H200"))
    phase = {"allocated_bytes": 57 * GIB, "reserved_bytes": 58 * GIB, "driver_bytes": 59 * GIB}
    memory = planned(gpus("H200"), calibration_of(formula, phases={"denoise": phase})).memory
    assert memory.phases.denoise.weights_bytes == formula.memory.phases.denoise.weights_bytes
    allocated = memory.phases.denoise.weights_bytes + memory.phases.denoise.activation_bytes
    assert allocated == 57 * GIB
    assert memory.peak_per_gpu_bytes == 60 * GIB


def test_a_peak_that_was_measured_decides_what_fits(gpus: Nodes) -> None:
    formula = planned(gpus("H200"))
    node = gpus("H200", free_bytes=[66 * GIB])
    assert planned(node).residency["text_encoder"].mode == "resident"
    too_large = calibration_of(formula, peak_per_gpu_bytes=70 * GIB)
    assert planned(node, too_large).hash != formula.hash


def test_other_steps_are_scaled_by_the_measured_step(gpus: Nodes) -> None:
    calibration = calibration_of(planned(gpus("H200")))
    assert planned(gpus("H200"), calibration, steps=20).time.per_request_seconds == pytest.approx(
        11.0 - 30 * 0.2
    )


@pytest.mark.parametrize(
    "other",
    [{"gpu_product": "NVIDIA-L40S"}, {"model": "demo"}, {"guidance": False},
     {"shape": {"width": 512, "height": 512, "steps": 50}}],
    ids=repr,
)  # fmt: skip
def test_what_was_measured_elsewhere_does_not_count(gpus: Nodes, other: dict[str, Any]) -> None:
    formula = planned(gpus("H200"))
    found = planned(gpus("H200"), calibration_of(formula, **other))
    assert found.memory == formula.memory
    assert found.time == formula.time


def test_other_software_is_named(gpus: Nodes) -> None:
    calibration = calibration_of(planned(gpus("H200")))
    running = Versions(engine="0.1.0", torch="2.12.0", driver="590.10")
    found = planned(gpus("H200"), calibration, versions=running)
    assert found.source == "calibrated"
    (warning,) = [w for w in found.warnings if "other software" in w]
    assert "torch 2.12.0 (measured with 2.11.0)" in warning
    assert "driver 590.10 (measured with 580.95)" in warning
    assert "engine" not in warning


def test_a_calibration_proves_its_layout(gpus: Nodes, plan: Plans, qwen: str) -> None:
    pair = gpus("H200", "H200", free_bytes=[44 * GIB] * 2)
    moved = {"text_encoder": "component", "vae": "component"}
    sharded = planned(pair, fsdp=True, gpus_per_replica=2, residency=moved)
    assert sharded.layout.fsdp
    without = planned(pair, gpus_per_replica=2)
    assert not without.layout.fsdp
    measured = calibration_of(sharded, peak_per_gpu_bytes=38 * GIB, per_request_seconds=7.0)
    with_it = planned(pair, measured, gpus_per_replica=2)
    assert with_it.layout.fsdp
    assert with_it.source == "calibrated"
    assert not any("not proven" in warning for warning in with_it.warnings)


def test_a_folder_of_files_is_read(gpus: Nodes, tmp_path: Path) -> None:
    calibration = calibration_of(planned(gpus("H200")))
    (tmp_path / "one.json").write_text(calibration.to_json())
    (tmp_path / "notes.txt").write_text("not a calibration")
    assert read_calibrations(tmp_path) == (calibration,)
    assert json.loads(calibration.to_json())["schema"] == "diffusion-operator.io/calibration/v1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "the document"),
        ('{"model": "demo", "perStepSeconds": -1}', "Field required"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(BadRequest, match=r"broken\.json is no calibration") as refusal:
        read_calibrations(tmp_path)
    assert words in str(refusal.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is not a folder"):
        read_calibrations(tmp_path / "none")
