"""The notebooks run, and print what they hold as their output."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.programs

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z|\+00:00)")


def printed(notebook):
    """What each cell of code has printed and come to, without the instants."""
    shown = [
        "".join(
            output.text if output.output_type == "stream" else output.data["text/plain"]
            for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [INSTANT.sub("<instant>", text) for text in shown]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
async def test_a_notebook_prints_what_it_shows(path):
    notebook = nbformat.read(path, as_version=4)
    shown = printed(notebook)

    await NotebookClient(notebook, timeout=100).async_execute()

    assert printed(notebook) == shown
