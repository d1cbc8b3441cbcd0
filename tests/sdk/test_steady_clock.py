"""The clock of a broker never goes back, and catches up with a wall clock that was set back."""

import logging

import pytest

from mq9.clock import LONGEST_JUMP_MS, SteadyClock, duration
from mq9.testing import ManualClock

START = 1_800_000_000


async def test_it_is_the_wall_clock_while_that_goes_on():
    clock = ManualClock(START)
    steady = SteadyClock(clock)
    await clock.advance(7)
    assert steady.now_ms() == clock.now_ms() == (START + 7) * 1000
    clock.set_back(-100)
    assert steady.now_ms() == clock.now_ms() == (START + 107) * 1000


async def test_it_goes_on_a_tenth_slower_until_the_wall_clock_has_caught_up():
    clock = ManualClock(START)
    steady = SteadyClock(clock)
    clock.set_back(10)
    assert steady.now_ms() == START * 1000
    await clock.advance(50)
    assert steady.now_ms() == (START + 45) * 1000
    await clock.advance(49)
    assert steady.now_ms() == clock.now_ms() + 100
    await clock.advance(1)
    assert steady.now_ms() == clock.now_ms() == (START + 90) * 1000
    await clock.advance(10)
    assert steady.now_ms() == clock.now_ms() == (START + 100) * 1000


async def test_it_goes_on_from_what_has_happened_elsewhere():
    clock = ManualClock(START)
    steady = SteadyClock(clock)
    steady.catch_up((START + 100) * 1000)
    assert steady.now_ms() == (START + 100) * 1000
    steady.catch_up((START + 50) * 1000)
    assert steady.now_ms() == (START + 100) * 1000
    await clock.advance(10)
    assert steady.now_ms() == (START + 109) * 1000


DAY = 86_400


def holding(clock):
    return SteadyClock(clock, longest_jump_ms=LONGEST_JUMP_MS, name="mail.db")


@pytest.fixture
def said(caplog):
    return lambda: [(one.levelno, one.getMessage()) for one in caplog.records]


@pytest.mark.parametrize(("days", "is_told"), [(29, False), (31, True), (366, True)])
async def test_a_file_that_was_closed_for_up_to_a_year_is_followed(days, is_told, said):
    clock = ManualClock(START)
    steady = holding(clock)
    steady.catch_up((START - days * DAY) * 1000)
    for _ in range(3):
        assert steady.now_ms() == clock.now_ms()
    assert steady.offset_ms == 0
    assert [level for level, _ in said()] == [logging.WARNING] * is_told
    assert all(f"mail.db: the time jumped ahead by {days} days" in text for _, text in said())


async def test_one_of_a_cluster_follows_any_jump():
    clock = ManualClock(START)
    steady = SteadyClock(clock)
    steady.catch_up((START - 4_000 * DAY) * 1000)
    assert steady.now_ms() == clock.now_ms()


async def test_a_longer_jump_is_not_followed_and_time_goes_on_from_the_last_change(said):
    clock = ManualClock(START)
    steady = holding(clock)
    then = START - 367 * DAY
    steady.catch_up(then * 1000)
    await clock.advance(100)
    assert steady.now_ms() == (then + 100) * 1000
    steady.catch_up((then + 100) * 1000)
    await clock.advance(5)
    assert steady.now_ms() == (then + 105) * 1000
    assert steady.offset_ms == -367 * DAY * 1000
    [(level, text)] = said()
    assert level == logging.ERROR
    assert "mail.db: this machine's time is 367 days after the last change" in text
    assert "mq9 doctor --set-clock FILE" in text
    steady.catch_up(clock.now_ms())  # an operator has set the time ahead
    assert steady.now_ms() == clock.now_ms()


async def test_nor_is_one_that_happens_while_it_is_open_until_the_clock_is_right(said):
    clock = ManualClock(START)
    steady = holding(clock)
    steady.catch_up(START * 1000)
    await clock.advance(10)
    assert steady.now_ms() == (START + 10) * 1000
    clock.set_back(-30 * 365 * DAY)
    await clock.advance(10)
    assert steady.now_ms() == (START + 20) * 1000
    clock.set_back(30 * 365 * DAY)
    await clock.advance(10)
    assert steady.now_ms() == clock.now_ms() == (START + 30) * 1000
    assert [level for level, _ in said()] == [logging.ERROR]


async def test_it_follows_when_an_operator_has_set_the_time_back(said):
    clock = ManualClock(START)
    steady = holding(clock)
    ahead = START + 30 * 365 * DAY
    steady.catch_up(ahead * 1000)
    assert steady.now_ms() == ahead * 1000
    steady.catch_up(START * 1000)
    await clock.advance(3)
    assert steady.now_ms() == clock.now_ms()
    [(level, text)] = said()
    assert level == logging.ERROR
    assert "mail.db: the time is 10,950 days ahead of this machine's" in text


async def test_a_long_time_that_was_measured_is_no_jump(said):
    clock = ManualClock(START)
    steady = holding(clock)
    steady.catch_up(START * 1000)
    await clock.advance(800 * DAY)
    steady.catch_up(START * 1000)
    assert steady.now_ms() == clock.now_ms()
    assert said() == []


def test_durations_are_told_in_their_largest_unit():
    told = [duration(one * 1000) for one in (5, 60, 3_600, 7_300, 90_000_000)]
    assert told == ["5 s", "1 minute", "1 hour", "2 hours", "1,041 days"]
