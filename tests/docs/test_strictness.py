"""`make docs` refuses a site whose pages do not belong together."""

import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.site


def build_site(directory, index, **others):
    """Build a site of a few pages, of which the first is listed, as `make docs` does."""
    pages = directory / "pages"
    pages.mkdir()
    for name, text in {"index": index, **others}.items():
        (pages / f"{name}.md").write_text(text)
    command = re.search(r"mkdocs build (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command[1] == "--strict"
    given = {"docs_dir": str(pages), "site_dir": str(directory / "site"), "nav": ["index.md"]}
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, **given))


def test_pages_that_belong_together_are_built(tmp_path):
    build_site(tmp_path, "# One\n\n## Two\n\n[two](#two)\n")
    assert (tmp_path / "site/index.html").exists()


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("[broken](missing.md)", {}),
        ("[broken](#nowhere)", {}),
        ("[broken](/elsewhere.md)", {}),
        ("[broken](index.md#nowhere)", {}),
        ("::: mq9.NoSuchThing", {}),
        ("", {"not-listed": "# Two\n"}),
    ],
)
def test_what_does_not_belong_to_the_others_is_refused(tmp_path, text, others):
    with pytest.raises(Abort):
        build_site(tmp_path, f"# One\n\n{text}\n", **others)
