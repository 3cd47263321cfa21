"""Predictions against phases measured on one H200 (2026-11-23, torch 2.11): peaks, and compiled forward
times.
"""

from __future__ import annotations

import pytest

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import Layout, Shape
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.memory_model import decode_bytes, denoise_bytes
from diffusion_runtime.planning.problem import Choice, Problem
from diffusion_runtime.planning.time_model import forward_seconds

QWEN, WAN = "Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers"


def problem(model: str, shape: Shape) -> Problem:
    facts = facts_for(model)
    dtype = dict.fromkeys(facts.component_names, "bfloat16")
    return Problem(facts, (shape,), True, Intent(), dtype, device_from_product("H200"))


def choice(compiled: bool, tile: int | None = None, gpus: int = 1, **layout: object) -> Choice:
    names = ("text_encoder", "transformer", "vae")
    return Choice(gpus, Layout(**layout), tuple((name, "resident") for name in names), tile, compiled)


@pytest.mark.parametrize(
    ("model", "width", "height", "frames", "compiled", "allocated", "reserved", "seconds"),
    [
        (QWEN, 1024, 1024, 1, False, 436.7e6, 639.7e6, 0.1754),
        (QWEN, 2048, 2048, 1, False, 1591.7e6, 2319.6e6, 0.8710),  # held out
        (QWEN, 1024, 1024, 1, True, 342.3e6, 543.3e6, 0.1364),
        (QWEN, 1328, 1328, 1, True, 481.0e6, 744.6e6, 0.2489),  # held out
        (WAN, 832, 480, 81, False, 3856.7e6, 5758.6e6, 3.1985),
        (WAN, 832, 480, 81, True, 2241.8e6, 3846.0e6, 2.6719),
    ],
)
def test_forward(
    model: str,
    width: int,
    height: int,
    frames: int,
    compiled: bool,
    allocated: float,
    reserved: float,
    seconds: float,
) -> None:
    asked = problem(model, Shape(width=width, height=height, frames=frames, steps=1))
    work, gap = denoise_bytes(asked, choice(compiled))
    assert work == pytest.approx(allocated, rel=0.10, abs=150e6)
    assert work + gap == pytest.approx(reserved, rel=0.15, abs=150e6)
    assert forward_seconds(asked, choice(compiled), asked.shapes[0]) == pytest.approx(seconds, rel=0.15)


@pytest.mark.parametrize(
    ("model", "width", "height", "frames", "tile", "allocated", "reserved"),
    [
        (QWEN, 1024, 1024, 1, None, 4435.9e6, 4977.0e6),
        (QWEN, 2048, 2048, 1, None, 17731.7e6, 19205.8e6),  # held out
        (QWEN, 2048, 2048, 1, 256, 320.7e6, 402.7e6),  # held out
        (WAN, 832, 480, 33, None, 4586.3e6, 6435.4e6),
        (WAN, 1280, 720, 81, None, 10844.2e6, 15514.5e6),  # held out
    ],
)
def test_decode(
    model: str, width: int, height: int, frames: int, tile: int | None, allocated: float, reserved: float
) -> None:
    asked = problem(model, Shape(width=width, height=height, frames=frames, steps=1))
    work, gap = decode_bytes(asked, choice(False, tile))
    assert work == pytest.approx(allocated, rel=0.10, abs=150e6)
    assert work + gap == pytest.approx(reserved, rel=0.15, abs=150e6)


def test_two_gpus() -> None:
    asked = problem(QWEN, Shape(width=1024, height=1024, steps=1))
    shape = asked.shapes[0]
    sharded = forward_seconds(asked, choice(False, gpus=2, cfg=2, fsdp=True), shape)
    assert sharded == pytest.approx(0.2517, rel=0.15)
    ulysses = forward_seconds(asked, choice(True, gpus=2, ulysses=2), shape)
    assert ulysses == pytest.approx(0.0917, rel=0.15)
