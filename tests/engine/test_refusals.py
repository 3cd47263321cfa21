"""What the engine must not start with: refused before anything is loaded, exit code 2, one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.loading.executable import EXECUTED
from diffusion_runtime.planning.documents import (
    AttentionSettings,
    Layout,
    ModelRef,
    Plan,
    Residency,
    ResidencyMode,
)
from engine.plans import COMPONENTS, DEMO, cpu_execution, plan_for

TWO_GPUS = ["--output", "a.png", "--num-gpus", "2"]
MODEL = {"name": "demo", "family": "qwen-image", "source": "path"}


def serve(folder: Path, plan: Plan | dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Exit code and termination message of `serve`; it must end by itself."""
    document = plan.to_dict() if isinstance(plan, Plan) else plan
    (folder / "plan.json").write_text(json.dumps(document))
    last_words = folder / "termination.json"
    flags = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--management-port",
        "0",
        "--termination-log",
        str(last_words),
    ]
    code = main(["serve", "--plan", str(folder / "plan.json"), *flags])
    return code, json.loads(last_words.read_text())


def mode(component: str, its: ResidencyMode, **counts: int) -> dict[str, Residency]:
    modes = {name: Residency(mode="resident") for name in COMPONENTS}
    return modes | {component: Residency(mode=its, **counts)}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"layout": Layout(ring=2), "gpus_per_replica": 2}, "layout.ring=2"),
        ({"layout": Layout(tensor=2), "gpus_per_replica": 2}, "layout.tensor=2"),
        ({"layout": Layout(fsdp=True)}, "layout.fsdp=true on one rank"),
        ({"layout": Layout(cfg=4), "gpus_per_replica": 4}, "layout.cfg=4"),
        ({"gpus_per_replica": 2}, "gpusPerReplica=2"),
        ({"residency": mode("vae", "layerwise")}, "residency.vae.mode=layerwise"),
        (
            {
                "layout": Layout(cfg=2, fsdp=True),
                "gpus_per_replica": 2,
                "residency": mode("transformer", "component"),
            },
            "residency.transformer.mode=component with layout.fsdp=true",
        ),
        ({"attention": AttentionSettings(backend="_flash_3")}, "attention.backend=_flash_3"),
        (
            {
                "layout": Layout(ulysses=2),
                "gpus_per_replica": 2,
                "attention": AttentionSettings(backend="flash4"),
            },
            "attention.backend=flash4 with layout.ulysses=2",
        ),
    ],
)
def test_what_cannot_be_executed_is_named_with_what_can(
    tmp_path: Path, changes: dict[str, Any], setting: str
) -> None:
    code, words = serve(tmp_path, plan_for(cpu_execution(**changes)))
    assert (code, words["reason"]) == (2, "LayoutUnsupported")
    assert setting in words["message"]
    assert f"this engine executes {EXECUTED}" in words["message"]


def test_cuda_plan_without_gpu_never_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_runtime.loading.gpus.driver_gpus", list)
    code, words = serve(tmp_path, plan_for(cpu_execution(device="cuda")))
    assert (code, words["reason"]) == (2, "NoUsableGpu")
    assert "needs 1 CUDA GPU(s), the driver shows 0" in words["message"]


def test_driver_that_does_not_answer_is_no_usable_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    def lost() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lost)
    code, words = serve(tmp_path, plan_for(cpu_execution(device="cuda")))
    assert (code, words["reason"]) == (2, "NoUsableGpu")
    assert "The driver does not describe its GPUs" in words["message"]
    flags = ["--prompt", "a", "--output", str(tmp_path / "a.png")]
    assert main(["generate", "--model-path", str(DEMO), *flags]) == 2


@pytest.mark.parametrize("schema", ["diffusion-operator.io/plan/v2", None])
def test_unknown_schema(tmp_path: Path, schema: str | None) -> None:
    document = plan_for(cpu_execution()).to_dict() | {"schema": schema}
    code, words = serve(tmp_path, document)
    assert (code, words["reason"]) == (2, "PlanMismatch")
    assert repr(schema) in words["message"]
    assert "diffusion-operator.io/plan/v1" in words["message"]


def test_plan_with_a_field_this_engine_does_not_know(tmp_path: Path) -> None:
    code, words = serve(tmp_path, plan_for(cpu_execution()).to_dict() | {"turbo": True})
    assert (code, words["reason"]) == (2, "PlanMismatch")
    assert "field turbo" in words["message"]


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ({**MODEL, "family": "wan", "path": str(DEMO)}, "PlanMismatch", "The plan is for 'wan'"),
        ({"name": "nothing", "family": "qwen-image"}, "UnknownModel", "'nothing'"),
        ({**MODEL, "path": "/nowhere"}, "InvalidSpec", "/nowhere is not a folder"),
        (
            {"name": "Qwen/Qwen-Image", "family": "qwen-image", "source": "huggingFace"},
            "NotSupportedYet",
            "huggingFace",
        ),
    ],
)
def test_plan_of_another_model(tmp_path: Path, model: dict[str, str], reason: str, words: str) -> None:
    code, last = serve(tmp_path, plan_for(cpu_execution(), model=ModelRef(**model)))
    assert (code, last["reason"]) == (2, reason)
    assert words in last["message"]


def test_plan_that_forgets_a_component(tmp_path: Path) -> None:
    residency = {"transformer": Residency(mode="resident")}
    code, words = serve(tmp_path, plan_for(cpu_execution(residency=residency)))
    assert (code, words["reason"]) == (2, "PlanMismatch")
    assert "residency names ['transformer']" in words["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"residency": mode("transformer", "layerwise", resident_blocks=7)},
            "residency.transformer.residentBlocks=7",
        ),
        ({"layout": Layout(ulysses=3), "gpus_per_replica": 3}, "layout.ulysses=3 does not divide the 4"),
    ],
)
def test_plan_that_this_model_cannot_follow(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """The demo's transformer has six blocks and four attention heads."""
    code, last = serve(tmp_path, plan_for(cpu_execution(**changes)))
    assert (code, last["reason"]) == (2, "PlanMismatch")
    assert words in last["message"]


def damaged(folder: Path, damage: str) -> Path:
    """A copy of the demo model with one thing wrong; returns the file that the sentence must name."""
    copy = folder / "model"
    shutil.copytree(DEMO, copy)
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "truncated":
        with weights.open("r+b") as stream:
            stream.truncate(weights.stat().st_size - 1)
        return weights
    if damage == "no header":
        weights.write_bytes(b"not a header at all" + bytes(64))
        return weights
    if damage == "wrong offsets":
        weights.write_bytes(weights.read_bytes().replace(b'"data_offsets":[0,', b'"data_offsets":[1,', 1))
        return weights
    if damage == "missing":
        weights.unlink()
        return weights.parent
    if damage == "pickle":
        weights.rename(weights.with_suffix(".bin"))
        return weights.parent
    if damage == "shard":
        index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
        weights.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
        return weights.with_name("diffusion_pytorch_model-00001-of-00002.safetensors")
    index_file = copy / "model_index.json"
    document = json.loads(index_file.read_text())
    document["tokenizer"] = ["my_code", "Tokenizer"] if damage == "foreign class" else None
    index_file.write_text(json.dumps(document))
    return index_file


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "no header",
        "wrong offsets",
        "missing",
        "pickle",
        "shard",
        "foreign class",
        "no tokenizer",
    ],
)
def test_damaged_folder_is_named_before_anything_is_loaded(tmp_path: Path, damage: str) -> None:
    file = damaged(tmp_path, damage)
    model = ModelRef(**MODEL, path=str(tmp_path / "model"))
    code, words = serve(tmp_path, plan_for(cpu_execution(), model=model))
    assert (code, words["reason"]) == (2, "InvalidSpec")
    assert str(file) in words["message"]


def test_generate_names_the_damaged_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = damaged(tmp_path, "truncated")
    flags = ["--device", "cpu", "--prompt", "a", "--output", str(tmp_path / "a.png")]
    assert main(["generate", "--model-path", str(tmp_path / "model"), *flags]) == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "a.gif"], "--output a.gif must end in one of .png"),
        (["--output", "/nowhere/a.png"], "folder /nowhere does not exist"),
        (["--output", "a.png", "--seed", "-1"], "seed -1 is out of range"),
        (["--output", "a.png", "--width", "65"], "65"),
        (["--output", "a.png", "--prompt", " "], "prompt is empty"),
        (["--output", "a.png", "--model-path", "gpt-9"], "'gpt-9'"),
        (["--output", "a.png", "--report", "/nowhere/a.json"], "folder /nowhere does not exist"),
        (
            ["--output", "a.png", "--dit-cpu-offload", "true", "--dit-layerwise-offload", "true"],
            "--dit-cpu-offload and --dit-layerwise-offload exclude each other",
        ),
        (["--output", "a.png", "--num-gpus", "3"], "No layout of qwen-image uses 3 GPUs"),
        ([*TWO_GPUS, "--ulysses-degree", "3"], "does not divide 4 heads"),
        (
            ["--output", "a.png", "--num-gpus", "1", "--use-fsdp-inference", "true"],
            "one GPU has nobody to shard with",
        ),
        (
            [*TWO_GPUS, "--use-fsdp-inference", "true", "--dit-layerwise-offload", "true"],
            "residency.transformer is layerwise, but FSDP keeps its shards resident",
        ),
        (
            [*TWO_GPUS, "--enable-cfg-parallel", "true", "--guidance-scale", "1"],
            "cfg is 2, but guidance is off",
        ),
    ],
)
def test_generate_names_what_is_wrong(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--model-path", "demo", "--device", "cpu", "--prompt", "a", *flags]) == 2
    assert words in capsys.readouterr().err


def test_port_in_use_is_named(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "plan.json").write_text(plan_for(cpu_execution()).to_json())
        last_words = tmp_path / "termination.json"
        flags = ["--host", "127.0.0.1", "--port", str(port), "--termination-log", str(last_words)]
        assert main(["serve", "--plan", str(tmp_path / "plan.json"), *flags]) == 2
    assert f"--port {port}" in json.loads(last_words.read_text())["message"]
