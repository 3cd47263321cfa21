"""The built pipeline itself, in this process: residency, dtypes, tiling, what must never pass silently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw
from diffusion_runtime.generation.undrawable import UndrawablePicture
from diffusion_runtime.parallel.cfg import CfgBranches
from diffusion_runtime.planning.documents import Execution, Residency, VaeSettings
from diffusion_runtime.residency.placement import place
from engine.filled import emptied
from engine.plans import DEMO, cpu_execution

CPU = torch.device("cpu")
REQUEST = PictureRequest(prompt="a red circle", width=64, height=64, steps=3, guidance_scale=4.0, seed=1)

# Importing diffusers and transformers warns about their own use of torch; ours to fix are none of these.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(execution: Execution, request: PictureRequest = REQUEST) -> torch.Tensor:
    """Pixels as integers (height, width, 3)."""
    pixels = draw(build(str(DEMO), execution, 0, CPU), request, lambda phase, step: None).pixels
    assert pixels is not None
    return pixels[0].int()


@pytest.fixture(scope="module")
def reference() -> torch.Tensor:
    return drawn(cpu_execution())


def test_component_is_copied_for_use_and_the_copy_is_dropped() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    values = [tensor.detach().clone() for tensor in (*module.parameters(), *module.buffers())]
    in_use = place(module, Residency(mode="component"), CPU, emptied(module))
    tensors = [*module.parameters(), *module.buffers()]
    home = [tensor.data_ptr() for tensor in tensors]
    with in_use():
        assert not {tensor.data_ptr() for tensor in tensors} & set(home)
        assert all(torch.equal(tensor, value) for tensor, value in zip(tensors, values, strict=True))
    assert [tensor.data_ptr() for tensor in tensors] == home
    with pytest.raises(RuntimeError, match="stop"), in_use():
        raise RuntimeError("stop")
    assert [tensor.data_ptr() for tensor in tensors] == home


def test_component_residency_draws_the_same_picture(reference: torch.Tensor) -> None:
    assert torch.equal(drawn(cpu_execution(mode="component")), reference)


def test_each_component_has_its_own_dtype(reference: torch.Tensor) -> None:
    dtype = {"text_encoder": "bfloat16", "transformer": "float32", "vae": "bfloat16"}
    built = build(str(DEMO), cpu_execution(dtype=dtype), 0, CPU)
    assert {name: getattr(built.pipeline, name).dtype for name in dtype} == {
        "text_encoder": torch.bfloat16,
        "transformer": torch.float32,
        "vae": torch.bfloat16,
    }
    pixels = draw(built, REQUEST, lambda phase, step: None).pixels
    assert pixels is not None
    difference = (pixels[0].int() - reference).abs().float().mean()
    assert 0 < difference < 20


@pytest.mark.parametrize(("tile_size", "tiles"), [(64, 1), (32, 9)])
def test_vae_decodes_in_tiles_of_the_planned_size(
    reference: torch.Tensor, tile_size: int, tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(str(DEMO), cpu_execution(vae=VaeSettings(tiling=True, tile_size=tile_size)), 0, CPU)
    calls = []
    built.pipeline.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    pixels = draw(built, REQUEST, lambda phase, step: None).pixels
    assert pixels is not None
    assert len(calls) == tiles
    assert (tiles == 1) == torch.equal(pixels[0].int(), reference)


def test_too_long_prompt_is_refused_before_weights_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of gigabytes take seconds, and not the same on every rank: ranks would fall out of step."""
    built = build(str(DEMO), cpu_execution(mode="component"), 0, CPU)
    moved: list[str] = []
    monkeypatch.setattr(built.owner, "use", lambda name, phase: moved.append(name))
    for field in ("prompt", "negative_prompt"):
        request = REQUEST.model_copy(update={field: "red " * 2000})
        with pytest.raises(UndrawablePicture) as refused:
            draw(built, request, lambda phase, step: None)
        assert refused.value.field == field
    assert not moved


def test_values_that_are_not_finite_are_no_picture() -> None:
    built = build(str(DEMO), cpu_execution(), 0, CPU)
    built.pipeline.transformer.proj_out.weight.data.fill_(torch.nan)
    with pytest.raises(UndrawablePicture, match="not finite"):
        draw(built, REQUEST, lambda phase, step: None)


def test_every_phase_and_step_is_a_sign_of_life() -> None:
    seen: list[tuple[str, int]] = []
    result = draw(
        build(str(DEMO), cpu_execution(), 0, CPU), REQUEST, lambda phase, step: seen.append((phase, step))
    )
    steps = [("denoise", step) for step in range(4)]
    assert seen == [("text", 0), *steps, ("decode", 0)]
    assert set(result.phases) == {"text", "denoise", "decode"}


def test_other_ranks_do_not_decode() -> None:
    built = build(str(DEMO), cpu_execution(), 0, CPU)
    result = draw(replace(built, rank=1), REQUEST, lambda phase, step: None)
    assert result.pixels is None
    assert "decode" not in result.phases


class Predicts(torch.nn.Module):
    """Stands for a transformer: returns twice its input."""

    def forward(self, hidden_states: torch.Tensor, return_dict: bool = True) -> Any:
        return (2 * hidden_states,)


def test_guidance_split_refuses_what_would_be_silently_wrong() -> None:
    transformer = Predicts()
    branches = CfgBranches(transformer, rank=1)
    placeholders = []
    with pytest.raises(RuntimeError, match="odd number"), branches.guided():
        placeholders.append(transformer(hidden_states=torch.ones(2), return_dict=False)[0])
    assert placeholders[0].isnan().all(), "whoever reads it too early must not get a plausible number"
    with pytest.raises(RuntimeError, match="return_dict=False"), branches.guided():
        transformer(hidden_states=torch.ones(2))
    assert transformer(hidden_states=torch.ones(2), return_dict=False)[0].tolist() == [2, 2]
