"""The notebooks run, and show what they hold as their output."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z|\+00:00)")
AGO = re.compile(r"\d+ m?s ago")
MADE_UP = re.compile(r'(?<="correlation_id":")[a-z2-7]{12}(?=")')


MEASURED = "measured"  # the tag of cells whose numbers and pictures differ with each run


def shown(notebook):
    """What each cell of code has printed and come to, without the instants.

    Of what is measured only the kinds of output.
    """
    return [
        kinds(cell) if MEASURED in cell.metadata.get("tags", ()) else text(cell)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def text(cell):
    joined = "".join(
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in cell.outputs
    )
    return MADE_UP.sub("<id>", AGO.sub("<ago>", INSTANT.sub("<instant>", joined)))


def kinds(cell):
    return {
        kind
        for output in cell.outputs
        for kind in ([output.name] if output.output_type == "stream" else output.data)
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
async def test_a_notebook_shows_what_it_holds(path):
    notebook = nbformat.read(path, as_version=4)
    before = shown(notebook)

    await NotebookClient(notebook, timeout=100).async_execute()

    assert shown(notebook) == before
