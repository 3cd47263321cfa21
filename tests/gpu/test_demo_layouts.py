"""Every residency and layout of the engine on real GPUs: the same picture as one plain GPU.

Run by `make test-gpu` on a machine with NVIDIA GPUs; without one it fails rather than skips, because nothing
else in the repository would notice. Cases that need more GPUs than the machine has are left out by name.
The rank processes, NCCL and the pinned copies are real; the model is the small one that ships in the image.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_runtime.loading.gpus import driver_gpus

MODELS = Path(__file__).parents[2] / "runtime_image" / "models"
COMPONENT = ["--text-encoder-cpu-offload", "true", "--dit-cpu-offload", "true", "--vae-cpu-offload", "true"]
CASES: list[tuple[str, int, list[str]]] = [
    ("component", 1, COMPONENT),
    ("layerwise", 1, ["--dit-layerwise-offload", "true"]),
    ("cfg", 2, ["--enable-cfg-parallel", "true"]),
    ("cfg-layerwise", 2, ["--enable-cfg-parallel", "true", "--dit-layerwise-offload", "true"]),
    ("cfg-fsdp", 2, ["--enable-cfg-parallel", "true", "--use-fsdp-inference", "true"]),
    ("ulysses", 2, ["--ulysses-degree", "2", "--enable-cfg-parallel", "false"]),
]
GPUS = len(driver_gpus())
FITTING = [case for case in CASES if case[1] <= GPUS]
MEAN_TOLERANCE = 2.0
"""Mean difference in 8-bit steps. The weights are bfloat16, and layouts add up in another order."""


def draw(folder: Path, name: str, gpus: int, flags: list[str]) -> np.ndarray:
    file = folder / f"{name}.png"
    command = [sys.executable, "-m", "diffusion_runtime.cli", "generate", "--model-path", "demo"]
    command += ["--num-gpus", str(gpus), "--seed", "3", "--output", str(file), *flags]
    command += ["--prompt", "a yellow star on a purple background"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
    return np.asarray(Image.open(file).convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module", autouse=True)
def built_in_models() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUSION_BUILTIN_MODELS", str(MODELS))
        yield


@pytest.fixture(scope="module")
def plain(folder: Path) -> np.ndarray:
    return draw(folder, "plain", 1, ["--performance-mode", "speed"])


def test_this_machine_has_a_gpu() -> None:
    assert GPUS, "no NVIDIA GPU answers; these tests are for a machine that has one"


@pytest.mark.parametrize(("name", "gpus", "flags"), FITTING, ids=[case[0] for case in FITTING])
def test_same_picture_as_one_plain_gpu(
    folder: Path, plain: np.ndarray, name: str, gpus: int, flags: list[str]
) -> None:
    difference = np.abs(draw(folder, name, gpus, flags) - plain)
    print(f"{name}: mean {difference.mean():.4f}, largest {difference.max():.0f} of 255")
    assert difference.mean() <= MEAN_TOLERANCE
