"""docs/cookbook.md names every sentence of the cookbook, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "cookbook.md"
RULES = Path("tests/unit/planning/test_cookbook_rules.py")
SENTENCES = {1: 11, 2: 24, 3: 17, 4: 6}
"""Sentences that say something, by section of the cookbook."""


def rows() -> dict[str, str]:
    """Number -> the last column of its row."""
    found = re.findall(r"^\| (\d\.\d+) \|.*\| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == len(dict(found))
    return dict(found)


def defined_in(file: Path) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named() -> set[tuple[Path, str]]:
    """(file, test) for every test that the page names; a file follows its test."""
    found = set()
    for cell in rows().values():
        for test, file in re.findall(r"`(test_\w+)`(?: in (tests/[\w/]+\.py))?", cell):
            found.add((Path(file) if file else RULES, test))
    return found


def test_every_sentence_has_a_row() -> None:
    expected = [f"{section}.{n}" for section, count in SENTENCES.items() for n in range(1, count + 1)]
    assert list(rows()) == expected


def test_every_row_names_a_test_or_says_that_there_is_no_rule() -> None:
    assert [number for number, cell in rows().items() if "`test_" not in cell] == ["2.17"]


def test_every_test_that_is_named_exists() -> None:
    assert [(str(file), test) for file, test in sorted(named()) if test not in defined_in(file)] == []


def test_every_rule_of_the_file_is_on_the_page() -> None:
    assert defined_in(RULES) - {test for _, test in named()} == set()
