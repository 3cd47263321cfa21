"""Trains the demo's text encoder and transformer together by flow matching on the autoencoder's latents.

Follows the pipeline exactly: the same template and dropped tokens, the same packing,
velocity = noise - picture, time = sigma. One caption in eight is replaced by an empty one, which is what
guidance compares with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers import transformer_qwenimage
from torch import Tensor, nn
from torch.nn import functional

from .architecture import TEMPLATE_TOKENS
from .autoencoder_training import encode
from .dataset import Captioned
from .pictures import draw
from .stepping import Trainer

PEAK_RATE = 1.5e-3
CAPTION_DROPOUT = 0.125
PICTURES_AT_ONCE = 4096  # of 128 x 128, while drawing


@dataclass(frozen=True)
class Bucket:
    """Ready samples of one size: packed, normalized latents [n, tokens, channels] and caption tokens."""

    latents: Tensor
    tokens: Tensor
    grid: tuple[int, int, int]
    share: float


def prepare(vae: Any, scenes: Captioned, share: float, device: torch.device) -> Bucket:
    """Draws and encodes every scene once; the latents stay on the device in bfloat16."""
    mean = torch.tensor(vae.config.latents_mean, device=device)[:, None, None]
    std = torch.tensor(vae.config.latents_std, device=device)[:, None, None]
    items, backgrounds = scenes.items.to(device), scenes.backgrounds.to(device)
    at_once = PICTURES_AT_ONCE * 128 * 128 // (scenes.width * scenes.height)
    packed = []
    for first in range(0, len(items), at_once):
        rows = slice(first, first + at_once)
        drawn = draw(items[rows], backgrounds[rows], scenes.width, scenes.height)
        for pictures in drawn.chunk(8):
            with torch.autocast(device.type, torch.bfloat16):
                latents = encode(vae, pictures.contiguous(memory_format=torch.channels_last))
            packed.append(pack(((latents - mean) / std).contiguous()).bfloat16())
    grid = (1, scenes.height // 16, scenes.width // 16)
    return Bucket(torch.cat(packed), scenes.tokens.to(device), grid, share)


def pack(latents: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, h/2 * w/2, 4c], as QwenImagePipeline packs."""
    n, c, h, w = latents.shape
    patches = latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(n, (h // 2) * (w // 2), c * 4)


def train_diffusion(
    text_encoder: Any,
    transformer: Any,
    buckets: list[Bucket],
    empty: Tensor,
    seconds: float,
    batch: int,
    seed: int,
) -> int:
    """Trains both in place for `seconds`, ends with their averaged weights; returns the number of steps.

    `empty` holds the tokenized empty captions [k, tokens]. Larger pictures get smaller batches."""
    device = empty.device
    torch.manual_seed(seed)
    model = nn.ModuleList([text_encoder.model.language_model, transformer])
    trainer = Trainer(model, PEAK_RATE, average_decay=0.9995, weight_decay=0.01)
    transformer_qwenimage.compute_text_seq_len_from_mask = _length_and_mask
    shares = torch.tensor([bucket.share for bucket in buckets])
    chooser = torch.Generator().manual_seed(seed)
    order = torch.multinomial(shares, 4096, replacement=True, generator=chooser).tolist()
    steps = []
    for bucket in buckets:
        count = max(1, batch * 64 // bucket.latents.shape[1])
        steps.append(trainer.record(partial(diffusion_loss, model, bucket, empty, count)))
        print(f"recorded {bucket.grid} x {count}", flush=True)
    start, progress, total = time.monotonic(), 0.0, torch.zeros((), device=device)
    while progress < 1:
        total += steps[order[trainer.steps % len(order)]]()
        if trainer.steps % 32 == 31 and device.type == "cuda":
            torch.cuda.synchronize()  # the clock must see the work done, not the work queued
        progress = (time.monotonic() - start) / seconds
        trainer.after_step(progress)
        if trainer.steps % 500 == 0:
            print(f"diffusion step {trainer.steps} loss {total.item() / 500:.5f} {progress:.1%}", flush=True)
            total.zero_()
    trainer.finish()
    return trainer.steps


def _length_and_mask(hidden: Tensor, mask: Tensor | None) -> tuple[int, None, Tensor | None]:
    """The transformer's own helper without its copy from the host, which no CUDA graph may hold."""
    return hidden.shape[1], None, mask


def diffusion_loss(model: nn.ModuleList, bucket: Bucket, empty: Tensor, count: int) -> Tensor:
    """Flow-matching loss on `count` random samples, times drawn logit-normally."""
    device = empty.device
    language_model, transformer = model
    rows = torch.randint(len(bucket.latents), (count,), device=device)
    pictures = bucket.latents[rows].float()
    which = torch.randint(bucket.tokens.shape[1], (count,), device=device)
    tokens = bucket.tokens[rows, which]
    blank = empty[torch.randint(len(empty), (count,), device=device)]
    tokens = torch.where(torch.rand(count, 1, device=device) < CAPTION_DROPOUT, blank, tokens)
    # The transformer rounds its time to its own dtype, so the noise is mixed by the rounded time too.
    sigma = torch.sigmoid(torch.randn(count, device=device) + 0.3).bfloat16().float()
    noise = torch.randn_like(pictures)
    noisy = torch.lerp(pictures, noise, sigma[:, None, None])
    with torch.autocast(device.type, torch.bfloat16):
        hidden, mask = embed(language_model, tokens)
        velocity = transformer(
            hidden_states=noisy,
            timestep=sigma,
            encoder_hidden_states=hidden,
            encoder_hidden_states_mask=mask,
            img_shapes=[[bucket.grid]] * count,
            return_dict=False,
        )[0]
    return functional.mse_loss(velocity.float(), noise - pictures)


def embed(language_model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states of the prompt part and their mask. Right padding needs no mask in a causal model."""
    present = tokens >= 0
    hidden = language_model(
        input_ids=tokens.long().clamp(min=0),
        attention_mask={
            "full_attention": None
        },  # causal, decided here: finding out would wait for the device
        use_cache=False,
    ).last_hidden_state
    return hidden[:, TEMPLATE_TOKENS:], present[:, TEMPLATE_TOKENS:]
