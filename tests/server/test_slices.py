"""Clients that want much of the event loop get it in slices, one at a time."""

from mq9.server.connection import Slices


class Later:
    """Calls what is due when it is told to."""

    def __init__(self):
        self.due = []

    def __call__(self, delay, function):
        assert delay > 0
        self.due.append(function)

    def run(self):
        due, self.due = self.due, []
        for function in due:
            function()


def test_one_goes_on_at_a_time_and_in_order():
    later, seen = Later(), []
    slices = Slices(later)
    for name in "abc":
        slices.ask(lambda name=name: seen.append(name))
    assert seen == []
    for expected in ("a", "ab", "abc"):
        later.run()
        assert "".join(seen) == expected
    assert later.due == []


def test_who_wants_still_more_waits_behind_the_others():
    later, seen = Later(), []
    slices = Slices(later)

    def greedy():
        seen.append("greedy")
        slices.ask(greedy)

    slices.ask(greedy)
    slices.ask(lambda: seen.append("other"))
    for _ in range(4):
        later.run()
    assert seen == ["greedy", "other", "greedy", "greedy"]


def test_one_who_fails_does_not_stop_the_others():
    later, seen = Later(), []
    slices = Slices(later)

    def fail():
        raise ValueError

    slices.ask(fail)
    slices.ask(lambda: seen.append("other"))
    try:
        later.run()
    except ValueError:
        seen.append("failed")
    later.run()
    assert seen == ["failed", "other"]
