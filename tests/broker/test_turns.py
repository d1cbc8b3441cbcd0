"""The queue that divides a worker's time evenly among those who ask."""

import random
import weakref

from mq9.storage.turns import FairQueue


def serve(queue, seconds, most=None):
    """Take one item, which takes the seconds of its asker."""
    item = queue.take(most)
    if item is not None:
        queue.charge(item[0], seconds[item[0]])
    return item


def test_the_order_of_one_asker_is_kept():
    queue = FairQueue()
    for number in range(5):
        queue.put("a", ("a", number))
    assert [serve(queue, {"a": 1})[1] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert serve(queue, {}) is None
    assert not queue


def test_who_asks_for_little_waits_for_one_turn_of_another_however_many_ask_for_much():
    queue = FairQueue()
    seconds = {"polite": 0.05, "one": 1.0, "two": 1.01, "three": 1.02, "four": 1.03}
    for asker in seconds:
        queue.put(asker, (asker, 0))
    served = []
    for _ in range(100):
        asker, _ = queue.take()
        if asker != "polite" and not queue.waiting("polite"):
            queue.put("polite", ("polite", 0))
        queue.charge(asker, seconds[asker])
        if asker != "polite":
            queue.put(asker, (asker, 0))
        served.append(asker)
    # Only at first nobody knows yet who asks for much.
    assert served[5::2] == ["polite"] * 48
    assert {served.count(asker) for asker in seconds if asker != "polite"} <= {12, 13}


def test_time_is_divided_evenly_among_those_who_always_want_more():
    queue = FairQueue()
    dice = random.Random(1)
    seconds = {"short": 0.001, "middle": 0.02, "long": 0.05}
    for asker in seconds:
        for number in range(2_000):
            queue.put(asker, (asker, number))
    used = dict.fromkeys(seconds, 0.0)
    while min(used.values()) < 1.0:
        asker, _ = queue.take()
        took = seconds[asker] * dice.uniform(0.5, 1.5)
        queue.charge(asker, took)
        used[asker] += took
    assert max(used.values()) - min(used.values()) < 0.2


def test_items_of_who_is_held_wait_and_are_in_order_afterwards():
    queue = FairQueue()
    for number in range(3):
        queue.put("a", ("a", number))
    assert serve(queue, {"a": 1}) == ("a", 0)
    queue.hold({"a"})
    queue.put("a", ("a", 3))
    queue.put("b", ("b", 0))
    assert serve(queue, {"b": 1}) == ("b", 0)
    assert serve(queue, {}) is None
    assert len(queue) == 3
    queue.release({"a"})
    assert [serve(queue, {"a": 1}) for _ in range(4)] == [("a", 1), ("a", 2), ("a", 3), None]


def test_who_asks_first_while_held_waits():
    queue = FairQueue()
    queue.hold({"a"})
    queue.put("a", ("a", 0))
    assert serve(queue, {}) is None
    queue.release({"a", "nobody"})
    queue.release({"a"})
    assert [serve(queue, {"a": 1}) for _ in range(2)] == [("a", 0), None]


def test_what_is_put_back_comes_first():
    queue = FairQueue()
    for number in (1, 3):
        queue.put("a", ("a", number))
    assert queue.take() == ("a", 1)
    queue.put_back("a", [("a", 1), ("a", 2)])
    assert [serve(queue, {"a": 1}) for _ in range(4)] == [("a", 1), ("a", 2), ("a", 3), None]
    queue.put("a", ("a", 4))
    queue.take()
    queue.put_back("a", [])
    assert queue.take() is None
    assert not queue


def test_who_was_idle_has_saved_up_nothing():
    queue = FairQueue()
    seconds = {"busy": 1.0, "idle": 1.0}
    for number in range(50):
        queue.put("busy", ("busy", number))
    for _ in range(20):
        serve(queue, seconds)
    for number in range(10):
        queue.put("idle", ("idle", number))
    served = [serve(queue, seconds)[0] for _ in range(10)]
    assert served.count("idle") == served.count("busy")


def test_what_would_take_longer_than_there_is_time_keeps_its_turn():
    queue = FairQueue()
    seconds = {"a": 1.0, "b": 0.1}
    queue.put("a", ("a", 1))
    serve(queue, seconds)
    queue.put("a", ("a", 2))
    assert serve(queue, seconds, most=0.5) is None
    assert len(queue) == 1
    queue.put("b", ("b", 1))
    assert [serve(queue, seconds)[0] for _ in range(2)] == ["b", "a"]


def test_the_last_are_taken_when_nothing_else_waits():
    queue = FairQueue()
    queue.put_last("last")
    queue.put("a", ("a", 1))
    queue.put("a", ("a", 2))
    assert [serve(queue, {"a": 1.0}) for _ in range(2)] == [("a", 1), ("a", 2)]
    assert queue.take() == "last"
    queue.charge("a", 1.0)
    assert queue.take() is None


def test_what_comes_while_its_asker_is_served_keeps_its_place():
    queue = FairQueue()
    queue.put("a", 1)
    assert queue.take() == 1
    queue.put("a", 2)
    queue.put("b", 3)
    queue.charge("a", 1.0)
    assert queue.waiting("a") == 1
    assert queue.take() == 3
    queue.charge("b", 1.0)
    assert queue.take() == 2


class Asker(str):
    """A name of which can be told whether anybody remembers it."""

    __slots__ = ("__weakref__",)


def test_askers_that_came_once_are_forgotten(monkeypatch):
    monkeypatch.setattr("mq9.storage.turns._MOST_REMEMBERED", 10)
    queue = FairQueue()
    remembered = weakref.WeakSet()
    for number in range(1_000):
        asker = Asker(f"asker {number}")
        remembered.add(asker)
        queue.put(asker, number)
        assert queue.take() == number
        queue.charge(asker, 1.0)
    del asker
    assert 5 <= len(remembered) <= 10
