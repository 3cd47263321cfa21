"""What the local cluster caches: whole or not there, keyed by content, the newest stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcluster import cache
from localcluster.shell import LocalClusterError


@pytest.fixture(autouse=True)
def cache_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFUSION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _write(text: str):  # noqa: ANN202 - a build function
    return lambda folder: (folder / "result").write_text(text)


def test_result_is_built_once() -> None:
    first = cache.kept_folder("tools/x", "key", _write("one"))
    again = cache.kept_folder("tools/x", "key", _write("two"))
    assert first == again
    assert (again / "result").read_text() == "one"


def test_build_that_fails_half_way_leaves_nothing(cache_in_tmp: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "result").write_text("half")
        raise LocalClusterError("the network went away")

    with pytest.raises(LocalClusterError, match="network"):
        cache.kept_folder("tools/x", "key", half)
    assert list((cache_in_tmp / "tools/x").iterdir()) == []
    assert (cache.kept_folder("tools/x", "key", _write("whole")) / "result").read_text() == "whole"


def test_only_the_most_recently_used_stay(cache_in_tmp: Path) -> None:
    for age, key in enumerate(["newest", "middle", "oldest"]):
        folder = cache.kept_folder("tools/x", key, _write(key), keep=3)
        os.utime(folder, (1000 - age, 1000 - age))
    cache.remove_older(cache_in_tmp / "tools/x", keep=2)
    assert {entry.name for entry in (cache_in_tmp / "tools/x").iterdir()} == {"newest", "middle"}


def test_digest_follows_names_and_contents(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    before = cache.digest([source, "v1"])
    assert cache.digest([source, "v1"]) == before
    assert cache.digest([source, "v2"]) != before
    (source / "a").rename(source / "b")
    renamed = cache.digest([source, "v1"])
    (source / "b").write_text("2")
    assert len({before, renamed, cache.digest([source, "v1"])}) == 3


def test_digest_passes_over_python_caches(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1")
    before = cache.digest([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_bytes(b"compiled")
    assert cache.digest([tmp_path]) == before


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="Dockerfile does not exist"):
        cache.digest([tmp_path / "Dockerfile"])


def test_lack_of_disk_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(
        LocalClusterError, match=r"building the moon needs about 10000000 GiB .* only [0-9.]+ GiB are free"
    ):
        cache.require_disk(10_000_000, "building the moon", tmp_path)
