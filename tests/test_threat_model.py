"""The threat model names the tests that try each attempt: they exist, and no attempt is without one."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| ---", "| attempt"))
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@functools.cache
def _tests_in(file: Path) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse(file.read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_the_page_is_read() -> None:
    assert len(ROWS) > 80
    # a blank line in a table would end it, and the rest be shown as text
    assert not re.search(r"\|\n\n\|(?! attempt)", PAGE)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_each_attempt_names_its_tests_or_is_said_not_to_be_stopped(row: list[str]) -> None:
    _, happens, tested = row
    if "**not stopped**" in happens:
        return
    named = NAMED.findall(tested)
    assert named, "name the tests that try it"
    assert ", ".join(f"`{file}::{test}`" for file, test in named) == tested, "name tests, and nothing else"


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED.findall(PAGE))))
def test_each_test_that_is_named_exists(file: str, test: str) -> None:
    assert (ROOT / file).is_file()
    assert not test or test in _tests_in(ROOT / file)
