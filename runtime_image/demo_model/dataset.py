"""Makes the training scenes and their tokenized captions, in many processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .architecture import TEMPLATE_TOKENS, prompt_template
from .pictures import encode_scenes
from .scenes import caption, sample_scene

CAPTIONS = 2
PROMPT_TOKENS = TEMPLATE_TOKENS + 38


@dataclass(frozen=True)
class Captioned:
    """Scenes of one size: items [n, 2, 5], backgrounds [n], tokens int16 [n, captions, tokens] (pad -1)."""

    width: int
    height: int
    items: Tensor
    backgrounds: Tensor
    tokens: Tensor


def make_scenes(tokenizer: Any, count: int, width: int, height: int, seed: int, workers: int) -> Captioned:
    """`count` captioned scenes; the same seed gives the same scenes whatever the number of workers."""
    chunk = 4096
    jobs = [
        (tokenizer, min(chunk, count - start), width, height, (seed, width, height, start))
        for start in range(0, count, chunk)
    ]
    if workers <= 1:
        parts = [_make_chunk(*job) for job in jobs]
    else:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            parts = list(pool.map(_make_chunk, *zip(*jobs, strict=True)))
    items, backgrounds, tokens = (
        torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)
    )
    return Captioned(width, height, items, backgrounds, tokens)


def _make_chunk(
    tokenizer: Any, count: int, width: int, height: int, seed: tuple[int, ...]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    template = prompt_template()
    scenes = [sample_scene(rng, width, height) for _ in range(count)]
    texts = [template.format(caption(rng, scene)) for scene in scenes for _ in range(CAPTIONS)]
    tokens = pad_tokens(tokenizer(texts).input_ids)
    items, backgrounds = encode_scenes(scenes)
    return items.numpy(), backgrounds.numpy(), tokens.reshape(count, CAPTIONS, PROMPT_TOKENS)


def pad_tokens(rows: list[list[int]]) -> np.ndarray[Any, Any]:
    """Token rows as int16 [n, PROMPT_TOKENS], padded on the right with -1; a longer row is an error."""
    padded = np.full((len(rows), PROMPT_TOKENS), -1, dtype=np.int16)
    for index, row in enumerate(rows):
        if len(row) > PROMPT_TOKENS:
            raise ValueError(f"a caption takes {len(row)} tokens; PROMPT_TOKENS is {PROMPT_TOKENS}")
        padded[index, : len(row)] = row
    return padded
