"""Lanes of tests that run at once fail when one fails, and their counts are added up in one closing line."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import side_by_side

# Stands for pytest: a folder's file says what it prints and how it ends.
SCRIPT = """
cat "$1/prints"
for word in "$@"; do echo "given $word"; done
exit $(cat "$1/status")
"""
LANES = {
    "good": ("..\n== 2 passed in 0.10s ==", 0),
    "more": ("..\n3 passed, 1 skipped, 2 warnings in 61.20s (0:01:01)", 0),
    "bad": ("F\nE the reason\n== 1 failed, 2 passed in 0.10s ==", 1),
    "uncollected": ("ERROR bad\n== 1 error in 0.10s ==", 2),
    "wordless": ("Killed", 137),
    "empty": ("== 4 deselected in 0.10s ==", 5),
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "pytest.sh"
    script.write_text(SCRIPT)
    for name, (prints, status) in LANES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "prints").write_text(prints + "\n")
        (tmp_path / name / "status").write_text(str(status))
    monkeypatch.setattr(side_by_side, "PYTEST", ("sh", str(script)))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("lanes", "status", "closing"),
    [
        (["good", "more"], 0, "5 passed, 1 skipped, 2 warning in "),
        (["bad", "good"], 1, "1 failed, 4 passed in "),
        (["good", "bad"], 1, "1 failed, 4 passed in "),
        (["good", "uncollected"], 2, "1 error, 2 passed in "),
        (["wordless", "good"], 137, "1 error, 2 passed in "),
        (["empty", "good"], 0, "2 passed in "),
        (["empty", "empty"], 5, "no tests ran in "),
    ],
)
def test_status_and_closing_line_are_of_all_lanes(
    lanes: list[str], status: int, closing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert side_by_side.main(lanes) == status
    assert capfd.readouterr().out.splitlines()[-1].startswith(closing)


def test_what_a_lane_behind_prints_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    side_by_side.main(["bad", "good"])
    assert "the reason" in capfd.readouterr().out


def test_arguments_reach_every_lane_and_folders_of_one_run_together(
    capfd: pytest.CaptureFixture[str],
) -> None:
    side_by_side.main(["good", "more,good", "--", "-k", "one"])
    said = capfd.readouterr().out
    assert said.count("given -k") == said.count("given one") == 2
    assert "given more\ngiven good\n" in said
