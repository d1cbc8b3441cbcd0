"""The page about performance: its figures are those of the committed run."""

import json

import pytest

from benchmarks import page
from benchmarks.cases import CASES
from benchmarks.plot import Bar, ratios


@pytest.fixture
def run():
    return json.loads(page.KEPT.read_text("utf-8"))


def test_the_page_and_its_picture_are_what_the_generator_makes_of_the_committed_run(run):
    text = page.PAGE.read_text("utf-8")

    assert page.written(text, run) == text, "run make bench-page"
    assert page.picture(run) == page.PICTURE.read_text("utf-8"), "run make bench-page"


def test_each_row_of_the_page_is_a_comparison_that_a_case_makes():
    made = {
        (case.name, one.measure, one.ours, one.beside) for case in CASES for one in case.comparisons
    }

    shown = [(one.case, one.measure, one.ours, one.beside) for one in (*page.RATES, *page.COSTS)]

    assert set(shown) <= made
    assert len(set(shown)) == len(shown)


def test_another_figure_changes_the_page_and_the_picture(run):
    text = page.PAGE.read_text("utf-8")
    [comparison] = run["cases"]["crowd"]["comparisons"]
    comparison["compared"]["median"], comparison["met"] = 0.4, False

    assert "| 0.40 | ≥ 0.8, missed by 50 % |" in page.written(text, run)
    assert page.picture(run) != page.PICTURE.read_text("utf-8")


def test_a_page_without_its_marked_lines_is_refused(run):
    text = page.PAGE.read_text("utf-8")

    with pytest.raises(SystemExit, match="rates"):
        page.written(text.replace("<!-- rates: end -->", ""), run)


def test_a_run_without_a_needed_case_is_refused_by_name(run):
    del run["cases"]["cpu"]["medians"]["mq9 serve"]["FETCH of one and ack"]

    with pytest.raises(SystemExit, match="'FETCH of one and ack' of the case cpu"):
        page.written(page.PAGE.read_text("utf-8"), run)


def test_a_row_that_was_not_measured_is_left_out(run):
    text = page.PAGE.read_text("utf-8")
    del run["cases"]["crowd"]["comparisons"][0]

    assert "| SEND, 64 clients |" in text
    assert "| SEND, 64 clients |" not in page.written(text, run)
    assert "SEND, 64 clients" not in page.picture(run)


def test_what_is_kept_of_a_table_has_medians_and_leaves_out_the_rounds():
    comparison = {"measure": "sequential", "compared": None}
    case = {
        "name": "sdk",
        "title": "a SEND",
        "units": {"sequential": "sends/s"},
        "figures": {"Mq9Client": {"sequential": [1.0, 5.0, 3.0]}},
        "not_installed": {},
        "comparisons": [comparison],
    }

    made = page.kept({"about": {"rounds": 3}, "cases": [case, {**case, "name": "disk"}]})

    assert made == {
        "about": {"rounds": 3},
        "cases": {
            "sdk": {
                "units": {"sequential": "sends/s"},
                "medians": {"Mq9Client": {"sequential": 3.0}},
                "comparisons": [comparison],
            }
        },
    }


def test_bars_begin_at_one_and_end_at_the_ratio_up_to_ten_times():
    drawn = ratios([Bar("a & b", 0.1, 1), Bar("c", 100, None)])

    assert 'class="less" x="300.0" y="45" width="200.0"' in drawn
    assert 'class="more" x="500.0" y="69" width="200.0"' in drawn
    assert "a &amp; b" in drawn
    assert drawn.count("<polygon") == 1
