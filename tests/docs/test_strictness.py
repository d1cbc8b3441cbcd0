"""`make docs` refuses a site whose pages do not belong together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.site


def build_site(directory, index):
    """Build a site of one page, as `make docs` does."""
    pages = directory / "docs"
    pages.mkdir()
    (pages / "index.md").write_text(index)
    command = re.search(r"\$\(BIN\)/zensical (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config |= {"nav": ["index.md"], "extra": {}, "extra_css": [], "site_dir": "site"}
    config["theme"].pop("favicon")
    python = next(one for one in config["plugins"] if "mkdocstrings" in one)
    python["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    (directory / "mkdocs.yml").write_text(yaml.safe_dump(config))
    return subprocess.run(
        [Path(sys.executable).with_name("zensical"), *command[1].split()],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pages_that_belong_together_are_built(tmp_path):
    done = build_site(tmp_path, "# One\n\n## Two\n\n[two](#two)\n\n::: mq9.Mq9Client\n")
    assert done.returncode == 0, done.stdout
    assert 'id="mq9.Mq9Client"' in (tmp_path / "site/index.html").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "[broken](missing.md)",
        "[broken](#nowhere)",
        "[broken](/elsewhere.md)",
        "[broken](index.md#nowhere)",
        "::: mq9.NoSuchThing",
    ],
)
def test_what_does_not_belong_to_the_others_is_refused(tmp_path, text):
    assert build_site(tmp_path, f"# One\n\n{text}\n").returncode


def listed(entry):
    """The pages that an entry of the navigation lists."""
    if isinstance(entry, str):
        return [entry]
    return [
        one
        for inner in (entry.values() if isinstance(entry, dict) else entry)
        for one in listed(inner)
    ]


def test_every_page_is_listed_once():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    docs = ROOT / config["docs_dir"]
    pages = [page.relative_to(docs).as_posix() for page in docs.rglob("*.md")]
    assert sorted(listed(config["nav"])) == sorted(pages)
