"""What an apply sends is the same read as JSON and as YAML, whatever characters a user writes."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diffusion_operator.kube.rest import yaml_text


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=12), max_size=3))
def test_both_readers_agree(body: dict[str, str]) -> None:
    text = yaml_text(body)
    assert json.loads(text) == yaml.safe_load(text) == body


@pytest.mark.parametrize(
    "text", ["🎨", "\U0010ffff", "模型", r"\ud83c\udfa8", "\\🎨", r"\\ud83c" + "🎨", "\u202e", "\x00\x85"]
)
def test_hard_ones(text: str) -> None:
    sent = yaml_text({"value": text})
    assert json.loads(sent) == yaml.safe_load(sent) == {"value": text}
    assert "\\ud83c\\udfa8" not in sent.replace("\\\\", "")
