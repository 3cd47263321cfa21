"""Slicing text encoders: what is refused before a rank starts, and which matrices a rank reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3Model

from builders.parity_families import write_folder
from diffusion_runtime.loading.executable import check_executable
from diffusion_runtime.loading.folder import check_plan_is_for, open_folder
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.parallel import text_encoder
from diffusion_runtime.planning.documents import Execution, Layout, Residency

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


def execution(folder: Path, layout: Layout) -> Execution:
    kinds = open_folder(folder).kinds
    return Execution(
        gpus_per_replica=layout.ranks,
        device="cpu",
        layout=layout,
        residency=dict.fromkeys(kinds, Residency(mode="resident")),
        dtype=dict.fromkeys(kinds, "float32"),
    )


def test_one_rank_has_nobody_to_share_with() -> None:
    alone = Execution(gpus_per_replica=1, layout=Layout(text_encoder_tensor=True), residency={}, dtype={})
    with pytest.raises(EngineRefusal, match="textEncoderTensor=true on one rank"):
        check_executable(alone)


def test_an_encoder_without_a_plan_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    folder = write_folder("flux", tmp_path)
    sliced = execution(folder, Layout(cfg=2, text_encoder_tensor=True))
    with pytest.raises(EngineRefusal, match=r"no text encoder .* has a tensor plan; these have: Gemma3"):
        check_plan_is_for(open_folder(folder), "flux", sliced)


def test_ranks_that_do_not_divide_the_heads_are_refused(tmp_path: Path) -> None:
    folder = write_folder("qwen-image", tmp_path)
    slices = open_folder(folder).encoder_slices["text_encoder"]
    ranks = 2 * slices
    sliced = execution(folder, Layout(tensor=ranks, text_encoder_tensor=True))
    with pytest.raises(EngineRefusal, match=f"do not divide the {slices} key and value heads"):
        check_plan_is_for(open_folder(folder), "qwen-image", sliced)


def test_a_rank_holds_and_reads_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(text_encoder.dist, "get_world_size", lambda: 2)
    config = Qwen3Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4,
    )  # fmt: skip
    whole = Qwen3Model(config)
    stored = {name: parameter.data for name, parameter in whole.named_parameters()}

    def fill(targets: Any) -> None:
        for name, tensor, first in targets:
            tensor.copy_(stored[name][first : first + tensor.shape[0]])

    with torch.device("meta"):
        mine = Qwen3Model(config)
    filled = text_encoder.slice_text_encoder(mine, fill)
    held = {name: torch.empty(p.shape) for name, p in mine.named_parameters()}
    filled([(name, tensor, 0) for name, tensor in held.items()])
    layer = "layers.0."
    assert torch.equal(held[layer + "mlp.up_proj.weight"], stored[layer + "mlp.up_proj.weight"][12:])
    assert torch.equal(held[layer + "mlp.down_proj.weight"], stored[layer + "mlp.down_proj.weight"][:, 12:])
    assert torch.equal(held[layer + "self_attn.k_proj.weight"], stored[layer + "self_attn.k_proj.weight"][4:])
    assert torch.equal(held["embed_tokens.weight"], stored["embed_tokens.weight"])
