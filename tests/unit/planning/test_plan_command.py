"""`diffusion-runtime plan` and `inspect`: output, exit codes 0, 2 and 3, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.planning.documents import Plan

QWEN = ["plan", "--model-path", "Qwen/Qwen-Image"]


def test_json_has_the_contract_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--gpu",
        "H200",
        "--gpu",
        "H200:free=20GiB",
        "--performance-mode",
        "auto",
        "--output",
        "json",
    ]
    assert main(QWEN + arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert Plan.model_validate(document).gpus_per_replica == 1
    assert document["layout"] == {
        "cfg": 1,
        "ulysses": 1,
        "ring": 1,
        "tensor": 1,
        "fsdp": False,
        "fsdpBlocksPerUnit": 1,
        "textEncoderTensor": False,
    }
    assert document["residency"]["transformer"]["mode"] == "resident"
    assert set(document["memory"]["phases"]) == {"load", "text", "denoise", "decode"}
    assert {"perForwardSeconds", "perStepSeconds", "perRequestSeconds"} == set(document["time"])


def test_table_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QWEN, "--gpu", "RTX-4090"]) == 0
    text = capsys.readouterr().out
    assert "transformer layerwise" in text
    assert "\nWhy\n" in text
    assert max(map(len, text.splitlines())) <= 115


def test_a_local_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["plan", "--model-path", str(folder), "--gpu", "L4", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["path"] == str(folder)


def test_flags_of_the_cookbook_bind(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--num-gpus", "2", "--use-fsdp-inference", "false", "--enable-cfg-parallel", "true",
             "--text-encoder-cpu-offload", "true", "--dit-layerwise-offload", "true"]  # fmt: skip
    assert main([*QWEN, "--gpu", "H200", "--gpu", "H200", "--output", "json", *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["gpusPerReplica"], document["layout"]["cfg"], document["layout"]["fsdp"]) == (
        2,
        2,
        False,
    )
    assert document["residency"]["transformer"]["mode"] == "layerwise"
    assert document["residency"]["text_encoder"]["mode"] == "component"


def test_nothing_fits_is_three_with_the_shortfall(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QWEN, "--gpu", "H200:free=8GiB", "--output", "json"]) == 3
    out, err = capsys.readouterr()
    assert "GiB more than the 7.6GiB that may be used" in err
    document = json.loads(out)
    assert document["reason"] == "InsufficientMemory"
    assert 1 <= len(document["rejected"]) <= 8


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--model-path", "nobody/none"], "known are demo"),
        (["--model-path", "./nothing-here"], "is not a folder"),
        (["--gpu", "Quadro-X"], "not in the table"),
        (["--gpu", "H200:free=465458732Gi"], "more than any machine has"),
        (["--gpu", "H200:free=-3GiB"], "is no size"),
        (["--gpu", "L4:free=400GiB"], "cannot be free"),
        (["--gpu", "H200:colour=red"], "write free=SIZE or memory=SIZE"),
        (["--num-gpus", "1000000000"], "no node holds more than 1024"),
        (["--num-gpus", "-1"], "gpusPerReplica is -1"),
        (["--width", "1000"], "try 992 or 1008"),
        (["--width", "-16"], "width is -16"),
        (["--guidance-scale", "nan"], "--guidance-scale is nan"),
        (["--performance-bias", "nan"], "bias is nan"),
        (["--performance-bias", "7"], "bias is 7"),
        (["--memory-reserve", "120%"], "from 0% to 99%"),
        (["--image-encoder-cpu-offload", "true"], "has no such component"),
        (["--dit-cpu-offload", "true", "--dit-layerwise-offload", "true"], "exclude each other"),
        (["--replicas", "0"], "give 1 or more"),
    ],
)
def test_bad_input_is_two_with_one_sentence(
    capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert main([*QWEN, "--gpu", "H200", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_inspect_counts_a_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["inspect", "--model-path", str(folder), "--output", "json"]) == 0
    parts = {part["name"]: part["elements"] for part in json.loads(capsys.readouterr().out)["components"]}
    assert parts == {"text_encoder": 64, "transformer": 60, "vae": 5}
    assert main(["inspect", "--model-path", "Qwen/Qwen-Image"]) == 0
    assert "60 x 339,831,296 in transformer_blocks" in capsys.readouterr().out
    (folder / "vae" / "config.json").unlink()
    assert main(["inspect", "--model-path", str(folder)]) == 2
    assert "config.json cannot be read" in capsys.readouterr().err


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from diffusion_runtime.cli import main; "
        "code = main(['plan', '--model-path', 'demo', '--gpu', 'H200']); "
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
