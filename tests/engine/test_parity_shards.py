"""Pieces of the parity suite: together every case once, each near its share; merged, one result file."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import parity_result, parity_shards
from builders.parity_cases import Kind, layouts
from builders.parity_shards import Shard, shard_wanted

CASES = [
    (name, Kind(layout, "resident", compiled=compiled))
    for name in ("one", "other")
    for layout in layouts(["cfg", "ulysses", "fsdp"])
    for compiled in (False, True)
]


@pytest.mark.parametrize("pieces", [1, 3, 16, 100])
def test_every_case_is_in_exactly_one_piece(pieces: int) -> None:
    shares = [Shard(number, pieces).chosen(CASES) for number in range(1, pieces + 1)]
    assert [case for share in shares for case in share] == CASES


def test_a_piece_is_near_its_share() -> None:
    heaviest = max(parity_shards._weight(kind) for _, kind in CASES)
    weights = [sum(parity_shards._weight(kind) for _, kind in Shard(n, 4).chosen(CASES)) for n in range(1, 5)]
    assert max(weights) - min(weights) <= 2 * heaviest


@pytest.mark.parametrize("words", ["3", "0/4", "5/4", "a/b", "1/"])
def test_what_is_no_piece_is_refused(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parity_shards.SHARD, words)
    with pytest.raises(ValueError, match="3/16 is the third of 16"):
        shard_wanted()


def test_the_merge_keeps_what_pieces_of_these_sources_have_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, parts = tmp_path / "parity.json", tmp_path / "parts"
    monkeypatch.setenv("DIFFUSION_PARITY_PARTS", str(parts))
    monkeypatch.setattr(parity_shards, "every_case", lambda pipelines: CASES[:3])
    monkeypatch.setattr(parity_shards, "read_cases", lambda file=result: parity_result.read_cases(file))
    monkeypatch.setattr(parity_shards, "write_cases", lambda cases: parity_result.write_cases(cases, result))
    drawn = {"family": "one", "covers": [], "kind": "float32", "ranks": 1, "seconds": 1.0, "passed": True}
    names = [f"{name}: {kind.name}" for name, kind in CASES[:3]]
    parity_result.write_cases({names[0]: drawn}, Shard(1, 2).file)
    parity_result.write_cases({names[1]: drawn}, Shard(2, 2).file)
    older = Shard(1, 3).file
    older.write_text('{"inputHash": "older", "cases": {"gone": {}}}')
    assert parity_shards.merge() == 1
    assert sorted(parity_result.read_cases(result)) == sorted(names[:2])
    words = capsys.readouterr().out
    assert "1 of 3 cases were not drawn" in words
    assert "1-of-3.json is of other sources" in words
