"""The page about scale: its tables are computed from the committed costs."""

import random

import pytest

from benchmarks.scripts import scale, scale_page


def simulated(rate, gateways=2):
    return scale.simulate(rate, random.Random(3), gateways, seconds=0.5)


def test_the_page_has_the_tables_of_the_program():
    text = scale_page.PAGE.read_text("utf-8")

    written = scale_page.written(text)

    assert written == text, "run python -m benchmarks.scripts.scale_page --write"


def test_a_page_without_its_marked_lines_is_refused():
    with pytest.raises(SystemExit, match="sizes"):
        scale_page.written("")


@pytest.mark.parametrize("gateways", [1, 2, 5])
def test_the_simulation_keeps_up_below_the_computed_limit_and_not_above(gateways):
    limit = scale.most_messages(gateways)

    below, above = (simulated(limit * share, gateways) for share in (0.8, 1.3))

    assert below[0] < 1.05
    assert above[0] > 1.15
    assert above[4] > 5 * below[4]


def test_more_messages_share_a_record_and_wait_longer():
    few, many = simulated(100), simulated(2_500)

    assert few[1] < 1.5
    assert many[1] > 10
    assert few[3] < many[3]


def test_the_same_source_gives_the_same_simulation():
    assert simulated(500) == simulated(500)


@pytest.mark.parametrize(
    ("figure", "text"), [(16_667, "16 667"), (16_667.0, "17 000"), (0.543, "0.54"), (7.0, "7")]
)
def test_a_measured_figure_has_two_digits_that_count(figure, text):
    assert scale_page.shown(figure) == text
