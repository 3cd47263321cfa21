"""Compiled blocks: one graph for all of them, any prompt length, exactly the declared sizes, others eager."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from diffusion_runtime.generation import picture
from diffusion_runtime.generation.build import BuiltPipeline, build
from diffusion_runtime.generation.families import CALLS
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.warm import warm
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import CompileSettings, Residency, Shape
from engine.plans import COMPONENTS, DEMO, cpu_execution

CPU = torch.device("cpu")
DECLARED = (Shape(width=64, height=96, steps=3), Shape(width=64, height=64, steps=3))
TOLERANCE = 5e-5
pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)"),
    pytest.mark.filterwarnings(
        "ignore:Torchinductor does not support code generation for complex:UserWarning"
    ),
]


def transformer_layerwise(compiled: bool) -> BuiltPipeline:
    residency = {name: Residency(mode="resident") for name in COMPONENTS}
    residency["transformer"] = Residency(mode="layerwise", prefetch_blocks=1)
    execution = cpu_execution(residency=residency, compile=CompileSettings(enabled=compiled))
    return build(str(DEMO), execution, 0, CPU)


@pytest.fixture(scope="module")
def eager() -> BuiltPipeline:
    torch.set_num_threads(1)
    return transformer_layerwise(compiled=False)


@pytest.fixture(scope="module")
def compiled(eager: BuiltPipeline) -> Iterator[BuiltPipeline]:
    counters.clear()
    built = transformer_layerwise(compiled=True)
    warm(built, DECLARED, True, lambda phase, step: None)
    yield built
    torch._dynamo.reset()


def latents(built: BuiltPipeline, prompt: str, width: int, height: int, scale: float) -> torch.Tensor:
    request = PictureRequest(prompt=prompt, width=width, height=height, steps=3, guidance_scale=scale, seed=1)
    return picture.draw_latents(built, request, lambda phase, step: None)


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("prompt", ["a", "a red circle on a blue background, on the left of a green square"])
@pytest.mark.parametrize("size", [(64, 96), (64, 64)])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_declared_sizes_are_compiled_and_close(
    compiled: BuiltPipeline, eager: BuiltPipeline, prompt: str, size: tuple[int, int], scale: float
) -> None:
    before = graphs()
    difference = latents(compiled, prompt, *size, scale) - latents(eager, prompt, *size, scale)
    assert 0 < difference.abs().max() <= TOLERANCE, (
        "no difference at all would mean that nothing was compiled"
    )
    assert graphs() == before == len(DECLARED), "a request must never pay for compilation"


def test_other_sizes_run_uncompiled(compiled: BuiltPipeline, eager: BuiltPipeline) -> None:
    before = graphs()
    assert torch.equal(latents(compiled, "a", 128, 64, 4.0), latents(eager, "a", 128, 64, 4.0))
    assert graphs() == before


def test_without_a_declared_shape_there_is_nothing_to_warm(compiled: BuiltPipeline) -> None:
    with pytest.raises(EngineRefusal, match="declared shape") as refused:
        warm(compiled, (), True, lambda phase, step: None)
    assert refused.value.reason == "PlanMismatch"


def test_a_clip_with_sound_has_graphs_for_its_rate() -> None:
    """The number of sound tokens follows the clip's seconds; silent families compute alike at any rate."""
    clip = PictureRequest(
        prompt="a", width=64, height=64, frames=9, steps=2, guidance_scale=1.0, seed=1, fps=24.0
    )
    slower = clip.model_copy(update={"fps": 12.0})
    sound, silent = CALLS["LTX2Pipeline"], CALLS["WanPipeline"]
    assert sound.graphs_of(clip) != sound.graphs_of(slower)
    assert silent.graphs_of(clip) == silent.graphs_of(slower)
