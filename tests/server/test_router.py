"""The router, against a list that is searched."""

import gc
import itertools
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mq9.server import router as routers
from mq9.server.router import Router
from mq9.wire.subjects import matches

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda head, rest: ".".join([*head, ">"] if rest else head),
    st.lists(TOKENS | st.just("*"), min_size=1, max_size=3),
    st.booleans(),
) | st.just(">")


@dataclass(eq=False)
class Listener:
    subject: str
    queue: str | None


class Routers(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.router = Router(lambda members: members[-1])
        self.listeners = []

    @rule(subject=PATTERNS, queue=st.sampled_from([None, None, "q", "r"]))
    def add(self, subject, queue):
        listener = Listener(subject, queue)
        self.listeners.append(listener)
        self.router.add(listener)

    @rule(data=st.data())
    def remove(self, data):
        if self.listeners:
            index = data.draw(st.integers(0, len(self.listeners) - 1))
            self.router.remove(self.listeners.pop(index))

    @rule(subject=PATTERNS)
    def remove_what_is_not_there(self, subject):
        self.router.remove(Listener(subject, None))

    @rule(subject=SUBJECTS)
    def route(self, subject):
        wanted = [one for one in self.listeners if matches(one.subject, subject)]
        routed = self.router.route(subject)
        assert Counter(id(one) for one in routed if one.queue is None) == Counter(
            id(one) for one in wanted if one.queue is None
        )
        queues = [one.queue for one in routed if one.queue is not None]
        assert sorted(queues) == sorted({one.queue for one in wanted if one.queue is not None})
        assert all(any(one is other for other in wanted) for one in routed)
        assert self.router.has_interest(subject) == bool(wanted)

    @invariant()
    def nothing_is_left_of_who_has_gone(self):
        assert len(self.router) == len(self.listeners)
        new = Router(lambda members: members[-1])
        for listener in self.listeners:
            new.add(listener)
        assert parts(self.router) == parts(new)


def parts(router):
    """Count the objects that a router is made of, and the listeners that it holds."""
    counts, seen, found = Counter(), set(), [router]
    while found:
        one = found.pop()
        is_part = isinstance(one, dict) or type(one).__module__ == routers.__name__
        if id(one) not in seen and (is_part or isinstance(one, Listener)):
            seen.add(id(one))
            counts[type(one)] += 1
            found += gc.get_referents(one) if is_part else ()
    return counts


TestRouters = Routers.TestCase
TestRouters.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("pattern", ["{}", "{}.>", "*{}"])
def test_a_subject_may_have_as_many_tokens_as_its_line_can_hold(pattern):
    deep = ".".join(["t"] * 2_000)
    router = Router(lambda members: members[0])
    subject = pattern.format(deep).replace("*t", "*")
    listener = Listener(subject, None)
    router.add(listener)
    assert router.route(f"{deep}.t" if subject.endswith(">") else deep) == [listener]
    router.remove(listener)
    assert parts(router) == parts(Router(lambda members: members[0]))


def test_a_subscription_takes_no_more_memory_than_its_subject_is_long():
    subjects = [f"{first}.{'t.' * 2_000}{last}" for first in range(20) for last in ("a", "b", "*")]
    router = Router(lambda members: members[0])
    listeners = [Listener(subject, None) for subject in subjects]
    tracemalloc.start()
    try:
        for listener in listeners:
            router.add(listener)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * sum(map(len, subjects))
    for listener in listeners:
        assert listener in router.route(listener.subject.replace("*", "x"))


def test_taking_part_twice_is_taking_part_once():
    router = Router(lambda members: members[0])
    listener = Listener("a.b", None)
    router.add(listener)
    router.add(listener)
    assert router.route("a.b") == [listener]
    router.remove(listener)
    router.remove(listener)
    assert len(router) == 0
    assert router.route("a.b") == []


def test_each_message_goes_to_one_member_of_a_queue_group_and_chance_decides():
    chosen = []

    def choose(members):
        chosen.append(len(members))
        return members[0]

    router = Router(choose)
    listeners = [Listener("a.*", "q"), Listener("a.>", "q"), Listener("a.b", "other")]
    for listener in listeners:
        router.add(listener)
    routed = router.route("a.b")
    assert sorted(chosen) == [1, 2]
    assert sorted(one.queue for one in routed) == ["other", "q"]


def test_who_may_not_get_a_message_is_not_picked_for_its_queue_group():
    router = Router(lambda members: members[0])
    listeners = [Listener("a", "q"), Listener("a", "q"), Listener("a", None)]
    for listener in listeners:
        router.add(listener)
    assert router.route("a", lambda one: one is not listeners[0]) == [listeners[2], listeners[1]]
    assert router.route("a", lambda one: one.queue is None) == [listeners[2]]


def routed_at_cost(router, subject):
    """Route a message; who gets it, and how many calls inside the router that took."""
    calls = 0

    def count(frame, event, _argument):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename == routers.__file__

    sys.setprofile(count)
    try:
        return router.route(subject), calls
    finally:
        sys.setprofile(None)


def unreachable(count):
    """A router with one subscription to `orders.7.new`, and so many that are like it."""
    router = Router(lambda members: members[0])
    for number in range(count):
        router.add(Listener(f"orders.{number}.>", None))
        router.add(Listener(f"orders.*.item{number}.*", None))
        router.add(Listener(f"{'t.' * 25}{number}", None))
        router.add(Listener(f"other.*.*.{number}.{'*.' * 20}x", None))
    return router


def test_what_a_message_costs_does_not_grow_with_subscriptions_that_it_cannot_reach():
    [found], cost = routed_at_cost(unreachable(3_000), "orders.7.new")
    assert found.subject == "orders.7.>"
    assert cost == routed_at_cost(unreachable(30), "orders.7.new")[1]


def test_wildcards_at_every_token_are_looked_at_once_each():
    patterns = [".".join(one) + ".x" * 22 for one in itertools.product("t*", repeat=10)]
    router = Router(lambda members: members[0])
    for pattern in patterns:
        router.add(Listener(pattern, None))
    found, cost = routed_at_cost(router, ".".join(["t"] * 10 + ["x"] * 21 + ["y"]))
    assert found == []
    assert cost < 3 * len(patterns)
    assert len(router.route(".".join(["t"] * 10 + ["x"] * 22))) == len(patterns)
