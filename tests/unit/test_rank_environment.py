"""What ranks find in their environment: torch's segments expand on GPUs, unless the user said otherwise."""

from __future__ import annotations

import pytest

from diffusion_runtime.parallel.environment import ALLOCATOR, OLD_ALLOCATOR, rank_environment


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOCATOR, raising=False)
    monkeypatch.delenv(OLD_ALLOCATOR, raising=False)


def test_segments_expand_on_gpus_only() -> None:
    assert rank_environment(1, "cuda")[ALLOCATOR] == "expandable_segments:True"
    assert ALLOCATOR not in rank_environment(1, "cpu")


@pytest.mark.parametrize("name", [ALLOCATOR, OLD_ALLOCATOR])
def test_the_users_settings_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "max_split_size_mb:512")
    assert ALLOCATOR not in rank_environment(1, "cuda")
