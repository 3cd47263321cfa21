"""What holds for every answer of the planner, on generated questions (tests/full/planner asks many more)."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.planner_cases import Case, cases, check
from diffusion_runtime.planning.units import GIB, KIB, MIB, TIB, format_bytes, parse_bytes

FEW = settings(
    max_examples=120, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def test_every_answer_keeps_its_promises() -> None:
    tally: Counter[str] = Counter()

    @FEW
    @given(case=cases())
    def run(case: Case) -> None:
        check(case, tally)

    run()
    assert tally["Plan"] >= 20, tally
    assert tally["other execution"] >= 3, tally
    assert tally["bias"] >= 5, tally


@given(st.integers(0, 1000 * TIB))
@settings(deadline=None, database=None, derandomize=True)
def test_sizes_survive_being_written_and_read(size: int) -> None:
    assert parse_bytes(str(size), "size") == size
    read = parse_bytes(format_bytes(size), "size")
    unit = next((u for u in (TIB, GIB, MIB, KIB) if size >= u), 1)
    assert abs(read - size) <= unit * 0.05 + 1


@given(
    st.integers(0, 1000),
    st.sampled_from([("Ki", KIB), ("MiB", MIB), ("Gi", GIB), ("TiB", TIB), ("G", 10**9)]),
)
@settings(deadline=None, database=None, derandomize=True)
def test_whole_units_are_read_exactly(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}", "size") == number * unit[1]
