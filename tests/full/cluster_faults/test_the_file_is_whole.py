"""Last of the suite: the result file holds every row."""

from __future__ import annotations

from full.cluster_faults.results import ROWS, read_result


def test_the_file_holds_every_row() -> None:
    assert set(read_result()["faults"]) == set(ROWS)
