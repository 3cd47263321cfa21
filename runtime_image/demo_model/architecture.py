"""The demo model's parts, built from the configurations below: a whole Qwen-Image pipeline, very small.

The classes are those of the real family, so whatever the engine does to Qwen-Image (parallel layouts,
residency, compilation) it does to the demo.
`python -m demo_model.architecture FOLDER` saves it with random weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from .scenes import caption, sample_scene

VOCABULARY = 640
LATENT_CHANNELS = 8
TEMPLATE_TOKENS = 34  # QwenImagePipeline drops this many tokens of its prompt template

TRANSFORMER: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": LATENT_CHANNELS * 4,
    "out_channels": LATENT_CHANNELS,
    "num_layers": 6,
    "attention_head_dim": 24,
    "num_attention_heads": 4,
    "joint_attention_dim": 128,
    "axes_dims_rope": (8, 8, 8),
}
VAE: dict[str, Any] = {
    "base_dim": 16,
    "z_dim": LATENT_CHANNELS,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [False, False, False],
    "latents_mean": [0.0] * LATENT_CHANNELS,
    "latents_std": [1.0] * LATENT_CHANNELS,
}
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
}
VISION: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 16,
    "out_hidden_size": 128,
    "fullatt_block_indexes": [0],
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "use_dynamic_shifting": True,
    "time_shift_type": "exponential",
    "base_image_seq_len": 64,
    "max_image_seq_len": 1024,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "shift_terminal": 0.02,
}
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def prompt_template() -> str:
    """The template QwenImagePipeline wraps every prompt in; `{}` stands for the prompt."""
    pipeline = object.__new__(QwenImagePipeline)
    QwenImagePipeline.__init__(pipeline, None, None, None, None, None)
    return str(pipeline.prompt_template_encode)


def build_tokenizer() -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer in which the template's head is exactly `TEMPLATE_TOKENS` tokens."""
    rng = np.random.default_rng(0)
    texts = [caption(rng, sample_scene(rng)) for _ in range(20_000)]
    template = prompt_template()
    for special in SPECIAL_TOKENS:
        template = template.replace(special, "")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator([*texts, *[template.format(" ")] * 2000], trainer)
    return _as_qwen2(learner)


def _as_qwen2(learner: Tokenizer) -> Qwen2Tokenizer:
    model = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = dict(model["vocab"])
    for special in SPECIAL_TOKENS:
        vocabulary[special] = len(vocabulary)
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        pad_token="<|endoftext|>",  # noqa: S106
        eos_token="<|im_end|>",  # noqa: S106
        unk_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        padding_side="right",
        model_max_length=2048,
    )


def build_text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """The text encoder; its vision tower is never run and as small as the class allows."""
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config=VISION,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def build_pipeline(seed: int = 0) -> QwenImagePipeline:
    """The whole pipeline in float32 on the CPU with random weights."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=AutoencoderKLQwenImage(**VAE),
        text_encoder=build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel(**TRANSFORMER),
    )


def main() -> None:
    folder = Path(sys.argv[1])
    pipeline = build_pipeline()
    pipeline.to(torch.bfloat16)
    pipeline.save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    main()
