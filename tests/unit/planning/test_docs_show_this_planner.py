"""Outputs and tables in the documents are what the code says now; `python -m builders.doc_outputs` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.doc_outputs import PAGES, renewed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- output: " in text or "<!-- table: " in text
    assert renewed(text) == text
