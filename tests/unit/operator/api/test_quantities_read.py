"""Quantities, durations and reserves as Kubernetes and users write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.api.quantities import (
    BadQuantity,
    parse_count,
    parse_duration_seconds,
    parse_memory_reserve,
    parse_quantity,
    parse_whole,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (1, 1),
        ("8", 8),
        ("500m", Fraction(1, 2)),
        ("64Gi", 64 * 2**30),
        ("1e3", 1000),
        ("1.5k", 1500),
        ("2E", 2 * 10**18),
    ],
)
def test_quantity(text: object, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "8 Gi", "1,5", "lots", None, True, 1.5, "9" * 65, "0x1"])
def test_bad_quantity_shows_the_value_and_an_example(text: object) -> None:
    with pytest.raises(BadQuantity, match="is not a quantity; write for example"):
        parse_quantity(text)


def test_bytes_round_up_and_counts_do_not_round() -> None:
    assert parse_whole("1500m") == 2
    with pytest.raises(BadQuantity, match="not a count"):
        parse_count("500m")
    with pytest.raises(BadQuantity, match="negative"):
        parse_whole("-1")


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["Ki", "Mi", "Gi", "k", "M", "G"]))
def test_suffixes_multiply(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * parse_quantity(f"1{suffix}")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1h1s", 3601)])
def test_duration(text: str, seconds: int) -> None:
    assert parse_duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "1d", "m"])
def test_bad_duration(text: str) -> None:
    with pytest.raises(BadQuantity, match="not a duration"):
        parse_duration_seconds(text)


def test_memory_reserve_is_share_or_bytes() -> None:
    assert parse_memory_reserve("5%") == (0.05, None)
    assert parse_memory_reserve("2Gi") == (None, 2 * 2**30)
