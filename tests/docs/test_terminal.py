"""The pictures of a terminal show what the commands print now."""

import pytest

draw_terminal = pytest.importorskip("draw_terminal")


@pytest.mark.slow
def test_the_pictures_of_a_terminal_are_those_of_a_new_run():
    drawn = draw_terminal.pictures()
    stored = {one.stem: one.read_text("utf-8") for one in draw_terminal.OUT.glob("*.svg")}
    stale = [name for name in {*drawn, *stored} if drawn.get(name) != stored.get(name)]
    assert not stale, "run make screenshots"
