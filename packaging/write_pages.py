"""Pages of the site from other files: the notebooks and the changelog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_WRITTEN = "<!-- Written from {} by make generated. -->"
_IN_DOCS = re.compile(r"\]\(docs/")
_NOTEBOOK = re.compile(r"\]\(([\w-]+)\.ipynb\)")
_FROM_NOTEBOOK = re.compile(r"\]\(\.\./docs/")
_INDEX = """\
{written}

# Notebooks

Each notebook runs without a server and without an API key. The tests run all of them. The files are
in `notebooks/` of a clone: open one in Jupyter or VS Code.

{rows}
"""


def page_of(notebook: Path) -> Path:
    """Return the page of a notebook."""
    return DOCS / "notebooks" / f"{notebook.stem}.md"


def changelog() -> str:
    """Return the changelog as a page."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    return f"{_WRITTEN.format('CHANGELOG.md')}\n\n{_IN_DOCS.sub('](', text)}"


def index() -> str:
    """Return the page that lists the notebooks."""
    rows = "\n".join(f"- [{_title(one)}]({one.stem}.md)" for one in NOTEBOOKS)
    return _INDEX.format(written=_WRITTEN.format("notebooks/"), rows=rows)


def _title(notebook: Path) -> str:
    return str(nbformat.read(notebook, as_version=4).cells[0].source.partition("\n")[0])[2:]


def page(notebook: Path) -> str:
    """Return a notebook as a page, with the outputs that it holds."""
    cells = nbformat.read(notebook, as_version=4).cells
    source = notebook.relative_to(ROOT)
    title, *parts = [part for cell in cells for part in _cell(cell)]
    source_line = f"This page is the notebook `{source}`, with its outputs."
    return "\n\n".join([_WRITTEN.format(source), title, source_line, *parts]) + "\n"


def _cell(cell: Any) -> Iterator[str]:
    if cell.cell_type == "markdown":
        linked = _NOTEBOOK.sub(r"](\1.md)", _FROM_NOTEBOOK.sub("](../", cell.source))
        head, _, rest = linked.partition("\n\n")
        yield head
        if rest:
            yield rest
        return
    yield f"```python\n{cell.source}\n```"
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![The plot of this cell.](data:image/png;base64,{data['image/png'].strip()})"
        else:
            text = output.text if output.output_type == "stream" else data["text/plain"]
            lines = "\n".join(text.rstrip().splitlines())  # of a terminal, some end in CR LF
            yield f"```text\n{lines}\n```"


# Each file, and the function that returns its text.
FILES: dict[Path, Callable[[], str]] = {
    DOCS / "changelog.md": changelog,
    DOCS / "notebooks/index.md": index,
    **{page_of(one): partial(page, one) for one in NOTEBOOKS},
}

if __name__ == "__main__":
    for path, text in FILES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(), "utf-8")
