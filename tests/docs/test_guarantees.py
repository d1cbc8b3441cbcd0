"""Every guarantee names tests. Every function and file that a page names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARANTEES, TESTS = (
    (ROOT / "docs/explanation/guarantees.md").read_text("utf-8").split("\n## Tests\n")
)
SECTIONS = re.findall(r"^### (.*?)$(.*?)(?=^### |\Z)", TESTS, re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FUNCTION = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
WALKS = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
WALKS = WALKS.partition("## Follow a request\n")[2].partition("\n## ")[0]
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


@cache
def names_in(path):
    """Return the functions of a module and the methods of its classes, as `Class.method`."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    methods = {
        f"{kind.name}.{one.name}"
        for kind in classes
        for one in kind.body
        if isinstance(one, functions)
    }
    return methods | functions_of(path)


def test_every_function_that_a_page_names_exists():
    for page in PAGES:
        for path, name in FUNCTION.findall(page.read_text("utf-8")):
            assert name in names_in(path), f"{page.relative_to(ROOT)}: {path}::{name}"


@pytest.mark.parametrize("walk", WALKS.split("\n### ")[1:], ids=lambda walk: walk.split("\n")[0])
def test_a_walk_names_short_functions_of_the_files_before_them(walk):
    path, found = None, 0
    for quoted in re.findall(r"`([^`]+)`", walk):
        if named := FUNCTION.fullmatch(f"`{quoted}`"):
            path = named[1]
            found += 1
        elif re.fullmatch(r"_[a-z_]+", quoted):
            known = {name.rpartition(".")[2] for name in names_in(path)}
            assert quoted in known, f"{path} has no {quoted}"
    assert found


def test_there_are_tests_of_each_guarantee():
    assert [heading for heading, _ in SECTIONS] == re.findall(
        r"^## (.*)$", GUARANTEES, re.MULTILINE
    )
