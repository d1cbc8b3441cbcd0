"""Every guarantee names tests, and those exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/guarantees.md").read_text("utf-8")
SECTIONS = re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^- `(tests/[\w/]+\.py)::(\w+)`$", re.MULTILINE)


@cache
def functions_of(path):
    """Return the names of the test functions of a module."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {one.name for one in tree.body if isinstance(one, functions)}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section[0])
def test_a_guarantee_names_tests_that_exist(section):
    named = NAMED.findall(section[1])
    assert named
    assert len(named) == section[1].count("`tests/")
    for path, name in named:
        assert name.startswith("test_")
        assert name in functions_of(path), f"{path}::{name}"


def test_there_are_as_many_guarantees_as_headings():
    assert len(SECTIONS) == PAGE.count("\n## ")
