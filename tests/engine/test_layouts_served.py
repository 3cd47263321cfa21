"""A sharded and compiled layout over the whole path: plan file, server, real ranks, picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw
from diffusion_runtime.planning.documents import CompileSettings, Layout
from engine.plans import DEMO, cpu_execution, plan_for
from engine.real_server import pixels, serving

COMPILED = CompileSettings(enabled=shutil.which("g++") is not None)
SHARDED = cpu_execution(layout=Layout(cfg=2, fsdp=True), gpus_per_replica=2, compile=COMPILED)


def test_sharded_guidance_is_served(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    built = build(str(DEMO), cpu_execution(), 0, torch.device("cpu"))
    with serving(plan_for(SHARDED), tmp_path) as server:
        for width, height in ((64, 64), (64, 48)):
            request = PictureRequest(
                prompt="a red circle", width=width, height=height, steps=4, guidance_scale=4.0, seed=11
            )
            drawn = draw(built, request, lambda phase, step: None).pixels
            assert drawn is not None
            expected = drawn[0]
            assert np.ptp(expected.numpy()) > 20, "a flat picture would prove nothing"
            fields = {"prompt": request.prompt, "seed": 11, "num_inference_steps": 4}
            served = pixels(server.post(**fields, size=f"{width}x{height}"))
            assert np.abs(served - expected.numpy().astype(int)).max() <= 2
        assert server.report()["rankGroupRestarts"] == 0
