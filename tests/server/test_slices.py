"""Clients that want much of the event loop get it in slices, one at a time."""

import pytest

from mq9.server.connection import Slices


def test_who_wants_still_more_waits_behind_the_others_and_who_fails_stops_none():
    due, seen = [], []
    slices = Slices(lambda delay, function: due.append(function))

    def greedy():
        seen.append("greedy")
        slices.ask(greedy)

    def fail():
        raise ValueError

    for one in (greedy, fail, lambda: seen.append("other")):
        slices.ask(one)
    due.pop()()
    with pytest.raises(ValueError):  # noqa: PT011  # it is this one
        due.pop()()
    due.pop()()
    due.pop()()
    assert seen == ["greedy", "other", "greedy"]
    assert len(due) == 1
