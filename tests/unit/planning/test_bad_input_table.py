"""Bad input: exit code 2 and one sentence naming the value. What merely does not fit: 3 and the shortfall."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from diffusion_runtime.cli import main

QWEN = ["--model-path", "Qwen/Qwen-Image", "--gpu", "H200"]
WAN = ["--model-path", "Wan-AI/Wan2.1-T2V-14B-Diffusers", "--gpu", "H200"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "plan") -> str:
    """The one sentence on standard error of a command that ends with 2."""
    assert main([command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith(f"diffusion-runtime {command}: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*QWEN, "--width", "-1024"], "width is -1024"),
        ([*QWEN, "--height", "0"], "height is 0"),
        (
            [*QWEN, "--height", "1000"],
            "height is 1000, but qwen-image draws multiples of 16: try 992 or 1008",
        ),
        ([*WAN, "--num-frames", "80"], "frames is 80, but wan draws 4k+1 frames: try 77 or 81"),
        ([*QWEN, "--num-frames", "5"], "draws single pictures: leave it at 1"),
        ([*QWEN, "--num-inference-steps", "0"], "steps is 0"),
        ([*QWEN, "--num-gpus", "1000000000"], "gpusPerReplica is 1000000000; no node holds more than 1024"),
        ([*QWEN, "--num-gpus", "0"], "gpusPerReplica is 0"),
        ([*QWEN, "--num-gpus", "3"], "counts up to 16 that work"),
        ([*QWEN, "--guidance-scale", "nan"], "--guidance-scale is nan"),
        ([*QWEN, "--guidance-scale", "inf"], "--guidance-scale is inf"),
        ([*QWEN, "--performance-bias", "-0.1"], "bias is -0.1"),
        ([*QWEN, "--memory-reserve=-1GiB"], "is no size"),
        ([*QWEN, "--memory-reserve", "nan%"], "from 0% to 99%"),
        ([*QWEN, "--host-memory", "465458732Gi"], "'465458732Gi' is more than any machine has"),
        ([*QWEN, "--gpu", "H200:free=465458732Gi"], "'465458732Gi' is more than any machine has"),
        ([*QWEN, "--gpu", "H200:free="], "'' is no size"),
        ([*QWEN, "--gpu", ""], "is not in the table"),
        ([*QWEN, "--tp-size", "7"], "tensor is 7, which does not divide 24 heads"),
        ([*QWEN, "--ulysses-degree", "-2"], "ulysses is -2"),
        ([*QWEN, "--use-fsdp-inference", "true", "--num-gpus", "1"], "nobody to shard with"),
        ([*QWEN, "--vae-tile-size", "100"], "vaeTileSize is 100; use a multiple of 16"),
        ([*QWEN, "--enable-cfg-parallel", "true", "--guidance-scale", "1"], "there is only one branch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flags(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert words in refused(capsys, *arguments)


@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_a_folder_that_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    gpu = ["--gpu", "H200"] if command == "plan" else []
    assert "model_index.json" in refused(capsys, "--model-path", str(tmp_path), *gpu, command=command)
    missing = tmp_path / "none"
    assert f"{missing}" in refused(capsys, "--model-path", f"{missing}", *gpu, command=command)


@pytest.mark.parametrize("length", [2**60, 10**6, 0])
def test_a_header_that_lies_about_its_length(
    capsys: pytest.CaptureFixture[str], folder: Path, length: int
) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])
    line = refused(capsys, "--model-path", str(folder), "--gpu", "H200")
    assert str(file) in line


@pytest.mark.parametrize(
    "flags", [["--num-gpus", "two"], ["--use-fsdp-inference", "maybe"], ["--mode", "fast"]]
)
def test_flags_that_cannot_be_read_end_with_two_as_well(
    capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plan", *QWEN, *flags])
    assert end.value.code == 2
    assert flags[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--model-path", "Qwen/Qwen-Image", "--gpu", "H200:free=6GiB"],
            "more than the 5.7GiB that may be used",
        ),
        (["--model-path", "Qwen/Qwen-Image", "--gpu", "RTX-4090", "--host-memory", "2GiB"], "host memory"),
        ([*QWEN, "--num-gpus", "2"], "no node has more than 1 free: 1 missing"),
        (["--model-path", "Qwen/Qwen-Image", "--gpu", "T4"], "has no bfloat16"),
    ],
)
def test_what_does_not_fit_is_three(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["plan", *arguments, "--output", "json"]) == 3
    out, err = capsys.readouterr()
    assert words in err
    document = json.loads(out)
    assert document["message"] in err
    if document["reason"].startswith("Insufficient") and document["reason"] != "InsufficientGPUs":
        assert document["shortfallBytes"] > 0
        assert 1 <= len(document["rejected"]) <= 8
