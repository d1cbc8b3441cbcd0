"""Pages read themselves, as far as a program can tell: see ``prose.py`` for the rules."""

from pathlib import Path

import pytest
from prose import findings

ROOT = Path(__file__).parents[2]
OF_THE_ROOT = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES = [*OF_THE_ROOT, *sorted((ROOT / "docs").rglob("*.md"))]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_plain(page):
    assert not (found := list(findings(page.read_text()))), "\n".join(found)


@pytest.mark.parametrize(
    ("markdown", "finding"),
    [
        ("# What goes in", "1: a heading begins with 'What'"),
        ("# Input\n\nWho writes is known.", "3: a sentence begins with 'Who'"),
        ("Send it to whoever asked.", "1: 'whoever'"),
        ("Where no lease is held, it waits.", "1: a sentence begins with 'Where'"),
        ("It keeps the message, too.", "1: 'too'"),
        ("The link lets one browser in.", "1: 'lets one browser in'"),
        ("The caller is told.", "1: 'is told'"),
        ("- " + "word " * 31, "1: a sentence of 31 words"),
        ("Five words stand here now. " * 19, "1: a paragraph of 95 words"),
    ],
)
def test_each_rule_finds_its_breach(markdown, finding):
    assert [one for one in findings(markdown) if one.startswith(finding)]


@pytest.mark.parametrize(
    "markdown",
    ["# What is a lease?", "```text\nwhoever\n```", "`whoever` is code.", "That is too much."],
)
def test_questions_and_code_are_left_alone(markdown):
    assert not list(findings(markdown))
