"""Real tokenizers with tiny vocabularies, for small pipelines: any text becomes tokens, none is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5TokenizerFast

DEMO_TOKENIZER = Path(__file__).parents[2] / "runtime_image" / "models" / "demo" / "tokenizer"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 640
"""At least as many entries as any of these tokenizers has."""


def qwen_tokenizer() -> Any:
    """The demo model's own, with a chat template."""
    tokenizer = Qwen2Tokenizer.from_pretrained(str(DEMO_TOKENIZER))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def clip_tokenizer() -> Any:
    """A token per byte, 77 at most."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def t5_tokenizer() -> Any:
    """A token per character; what it has no token for is unknown."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(chr(code) for code in range(33, 127))]
    vocabulary = [(piece, 0.0 if piece.startswith("<") and len(piece) > 1 else -2.0) for piece in pieces]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, additional_special_tokens=[], model_max_length=512)
