"""The clock of a broker never goes back, and catches up with a wall clock that was set back."""

from mq9.clock import SteadyClock
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
