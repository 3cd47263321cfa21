"""Trains the demo's autoencoder on pictures drawn as it goes, then fixes the statistics of its latents.

A picture is one frame, so of each causal 3D convolution only the last time slice sees anything but padding;
training runs that slice alone as a 2D convolution (the same numbers, a third of the work) and leaves the
others at zero. The saved model decodes pictures; it is no video autoencoder.
"""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import Tensor
from torch.nn import functional

from .dataset import Captioned
from .pictures import draw
from .stepping import Trainer

KL_WEIGHT = 3e-4
EDGE_WEIGHT = 0.5
PEAK_RATE = 1e-3
POOL = 32_768  # pictures kept on the device: 3.2 GiB


@dataclass(frozen=True)
class AutoencoderResult:
    """The averaged model with `latents_mean` and `latents_std` set, and how the training went."""

    vae: Any
    steps: int
    mean_absolute_error: float


def train_autoencoder(
    vae: Any, scenes: Captioned, seconds: float, batch: int, seed: int, device: torch.device
) -> AutoencoderResult:
    """Trains for `seconds` on pictures of the scenes, drawn once; every eighth step is 256 x 256."""
    torch.manual_seed(seed)
    vae = vae.to(device)
    flatten_time(vae)
    pools = [
        (draw_all(scenes, POOL, 128, device), batch),
        (draw_all(scenes, POOL // 16, 256, device), batch // 4),
    ]
    trainer = Trainer(vae, PEAK_RATE, average_decay=0.999, weight_decay=0.0)
    steps = [trainer.record(partial(sampled_loss, vae, pool, count)) for pool, count in pools]
    print("autoencoder steps recorded", flush=True)
    start, progress = time.monotonic(), 0.0
    while progress < 1:
        loss = steps[trainer.steps % 8 == 7]()
        if trainer.steps % 32 == 31 and device.type == "cuda":
            torch.cuda.synchronize()  # the clock must see the work done, not the work queued
        progress = (time.monotonic() - start) / seconds
        trainer.after_step(progress)
        if trainer.steps % 250 == 0:
            print(f"autoencoder step {trainer.steps} loss {loss.item():.5f} {progress:.0%}", flush=True)
    trainer.finish()
    error = fix_latent_statistics(vae, pools[0][0])
    return AutoencoderResult(vae, trainer.steps, error)


def draw_all(scenes: Captioned, count: int, side: int, device: torch.device) -> Tensor:
    """The first `count` scenes as pictures bfloat16 [n, 3, side, side] on the device."""
    items, backgrounds = scenes.items[:count].to(device), scenes.backgrounds[:count].to(device)
    rows = range(0, len(items), 2048)
    drawn = [draw(items[i : i + 2048], backgrounds[i : i + 2048], side, side).bfloat16() for i in rows]
    return torch.cat(drawn).contiguous(memory_format=torch.channels_last)


def sampled_loss(vae: Any, pool: Tensor, count: int) -> Tensor:
    rows = torch.randint(len(pool), (count,), device=pool.device)
    return autoencoder_loss(vae, pool[rows].contiguous(memory_format=torch.channels_last).float())


def autoencoder_loss(vae: Any, pictures: Tensor) -> Tensor:
    """Absolute error of pixels and of their differences, plus a small KL term."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        moments = vae.quant_conv(vae.encoder(pictures[:, :, None]))
        mean, log_variance = moments.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        latents = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        drawn = vae.decoder(vae.post_quant_conv(latents))[:, :, 0].float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    edges = sum(functional.l1_loss(drawn.diff(dim=axis), pictures.diff(dim=axis)) for axis in (2, 3))
    loss: Tensor = functional.l1_loss(drawn, pictures) + EDGE_WEIGHT * edges + KL_WEIGHT * divergence
    return loss


@torch.no_grad()
def encode(vae: Any, pictures: Tensor) -> Tensor:
    """Latent means [n, channels, height / 8, width / 8] in float32, before normalization."""
    moments: Tensor = vae.quant_conv(vae.encoder(pictures[:, :, None]))
    return moments.chunk(2, dim=1)[0][:, :, 0].float()


@torch.no_grad()
def fix_latent_statistics(vae: Any, pictures: Tensor) -> float:
    """Writes the latents' mean and deviation into the configuration; returns the reconstruction error."""
    chunks, errors = [], []
    for first in range(0, min(4096, len(pictures)), 256):
        part = pictures[first : first + 256].float()
        latents = encode(vae, part)
        drawn = vae.decoder(vae.post_quant_conv(latents[:, :, None]))[:, :, 0]
        errors.append(functional.l1_loss(drawn, part).item())
        chunks.append(latents)
    latents = torch.cat(chunks)
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    vae.register_to_config(
        latents_mean=[round(value, 5) for value in mean.tolist()],
        latents_std=[round(value, 5) for value in std.tolist()],
    )
    print(f"latents mean {mean.tolist()} std {std.tolist()}", flush=True)
    return sum(errors) / len(errors)


def flatten_time(vae: Any) -> None:
    """Runs every causal 3D convolution as the 2D convolution it is for one frame; zeroes the other slices."""
    for module in vae.modules():
        if isinstance(module, QwenImageCausalConv3d):
            with torch.no_grad():
                module.weight[:, :, :-1].zero_()
            module.forward = MethodType(_one_frame, module)


def with_time(vae: Any) -> Any:
    """A copy of the model whose convolutions are the class's own again."""
    for module in vae.modules():
        if isinstance(module, QwenImageCausalConv3d):
            module.__dict__.pop("forward", None)
    return deepcopy(vae)


def _one_frame(module: Any, x: Tensor, _cache: Tensor | None = None) -> Tensor:
    padding = (module._padding[2], module._padding[0])
    weight = module.weight[:, :, -1].contiguous(memory_format=torch.channels_last)
    frame = functional.conv2d(x[:, :, 0], weight, module.bias, module.stride[1:], padding)
    return frame[:, :, None]
