"""Leases: a task goes to exactly one worker, and comes again when that one dies."""

import pytest

from mq9 import InvalidRequest

from .reading import START, bodies, ids, send_all


async def test_two_workers_of_a_group_share_the_tasks_each_once(way, client, inbox):
    workers = [await way.client() for _ in range(2)]
    await client.fetch(inbox, group_name="work", deliver="earliest", max_wait_ms=0)
    await send_all(client, inbox, *map(str, range(20)))
    done = [[], []]
    while True:
        for worker, mine in zip(workers, done, strict=True):
            batch = await worker.fetch(inbox, group_name="work", num_msgs=3, max_wait_ms=0)
            mine.extend(ids(batch))
            if batch:
                await worker.ack(inbox, "work", batch[-1].msg_id)
        if not batch:
            break

    assert sorted(done[0] + done[1]) == list(range(20))
    assert all(done)


async def test_two_workers_that_wait_at_once_get_one_task_each_or_one_gets_both(way, client, inbox):
    workers = [await way.client() for _ in range(2)]
    waiting = [
        await way.begin(
            worker.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1, max_wait_ms=60_000)
        )
        for worker in workers
    ]
    await send_all(client, inbox, "a", "b")
    await way.clock.advance(1)

    assert sorted(bodies([*await waiting[0], *await waiting[1]])) == ["a", "b"]


async def test_a_leased_message_is_nobody_elses_until_the_lease_ends(way, inbox):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "task")
    held = await one.fetch(inbox, group_name="g", deliver="earliest", lease_ms=30_000)
    assert held.lease_until == START + 30

    await way.clock.advance(29.999)
    assert await two.fetch(inbox, group_name="g", max_wait_ms=0) == []
    await way.clock.advance(0.001)
    [again] = await two.fetch(inbox, group_name="g", max_wait_ms=0)

    assert (again.text, again.delivery_count) == ("task", 2)
    assert await one.fetch(inbox, group_name="g", max_wait_ms=0) == []


async def test_the_tasks_of_a_worker_that_died_are_redelivered_once(way, inbox):
    dead, two, three = [await way.client() for _ in range(3)]
    await send_all(dead, inbox, "a", "b", "c")
    await dead.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
    await dead.close()
    assert bodies(await two.fetch(inbox, group_name="g")) == ["c"]
    await two.ack(inbox, "g", 2)

    await way.clock.advance(60)

    assert bodies(await three.fetch(inbox, group_name="g")) == ["a", "b"]
    assert await two.fetch(inbox, group_name="g", max_wait_ms=0) == []


async def test_redeliver_own_false_asks_for_the_others_only_until_the_lease_has_ended(
    way, client, inbox
):
    others = {"group_name": "g", "redeliver_own": False, "max_wait_ms": 0}
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest", lease_ms=1_000)
    await client.send(inbox, "b")

    assert bodies(await client.fetch(inbox, **others)) == ["b"]
    assert await client.fetch(inbox, **others) == []
    await way.clock.advance(1)
    [again] = await client.fetch(inbox, **others)
    assert (again.text, again.delivery_count) == ("a", 2)


async def test_a_fetch_lists_what_is_held_beside_its_messages(way, inbox):
    one, two = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b", "c", "d")
    await one.fetch(inbox, group_name="g", num_msgs=1, deliver="earliest")
    await one.fetch(inbox, group_name="g", num_msgs=1, lease_ms=30_000, redeliver_own=False)

    fetched = await two.fetch(inbox, group_name="g", num_msgs=1, list_held=True)

    assert bodies(fetched) == ["c"]
    assert fetched.held is not None
    assert [(held.msg_id, held.consumer, held.deliveries) for held in fetched.held] == [
        (1, one.consumer, 1),
        (0, one.consumer, 1),
    ]
    assert fetched.held[1].until - fetched.held[0].until == pytest.approx(30)
    await one.ack(inbox, "g", 1)
    await two.nack(inbox, "g", 2, delay_ms=5_000)
    await two.fetch(inbox, group_name="g")
    empty = await two.fetch(inbox, group_name="g", max_wait_ms=0, list_held=True, num_msgs=1)
    assert ([held.msg_id for held in empty.held or ()], empty.held_more) == ([0], False)
    await way.clock.advance(60)
    assert not (await one.fetch(inbox, group_name="g", list_held=True)).held


async def test_what_was_not_asked_for_is_not_listed_and_goes_with_a_group(client, inbox):
    await client.send(inbox, "a")

    assert (await client.fetch(inbox, group_name="g", deliver="earliest")).held is None
    with pytest.raises(InvalidRequest, match="list_held: only a group holds messages"):
        await client.fetch(inbox, list_held=True)


async def test_of_what_is_held_a_hundred_are_listed(client, inbox):
    await send_all(client, inbox, *map(str, range(101)))
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=101)

    told = await client.fetch(
        inbox, group_name="g", redeliver_own=False, max_wait_ms=0, list_held=True
    )

    assert (len(told.held or ()), told.held_more) == (100, True)


async def test_a_refetch_sets_the_lease_anew_from_the_longest_to_the_shortest(way, inbox):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "a")
    longest = await one.fetch(inbox, group_name="g", deliver="earliest", lease_ms=86_400_000)
    assert longest.lease_until == START + 86_400
    await way.clock.advance(86_390)
    assert await two.fetch(inbox, group_name="g", max_wait_ms=0) == []
    shortest = await one.fetch(inbox, group_name="g", lease_ms=1_000)
    assert shortest.lease_until == START + 86_391

    await way.clock.advance(1)

    assert bodies(await two.fetch(inbox, group_name="g", max_wait_ms=0)) == ["a"]


async def test_one_client_may_act_for_several_consumers(client, inbox):
    await send_all(client, inbox, "a", "b")
    one = await client.fetch(
        inbox, group_name="g", deliver="earliest", num_msgs=1, consumer="worker one"
    )
    two = await client.fetch(inbox, group_name="g", consumer="worker two")

    assert (bodies(one), bodies(two)) == (["a"], ["b"])
    assert bodies(await client.fetch(inbox, group_name="g", consumer="worker one")) == ["a"]


@pytest.mark.parametrize("bound", [{"num_msgs": 2}, {"max_bytes": 30_000}], ids=str)
async def test_a_cut_reply_leases_only_what_is_in_it(way, inbox, bound):
    one, two = await way.client(), await way.client()
    await send_all(one, inbox, *[bytes(10_000)] * 5)

    cut = await one.fetch(inbox, group_name="g", deliver="earliest", **bound)
    rest = await two.fetch(inbox, group_name="g", num_msgs=3)

    assert (ids(cut), cut.more) == ([0, 1], True)
    assert (ids(rest), rest.more) == ([2, 3, 4], False)


async def test_one_message_always_fits(client, inbox):
    await send_all(client, inbox, bytes(10_000), "small")

    for read in (
        await client.fetch(inbox, group_name="g", deliver="earliest", max_bytes=1),
        await client.fetch(inbox, deliver="earliest", max_bytes=1),
    ):
        assert (ids(read), read.more) == ([0], True)


async def test_a_small_message_does_not_overtake_one_that_did_not_fit(client, inbox):
    await send_all(client, inbox, "first", bytes(10_000), "third")

    cut = await client.fetch(inbox, group_name="g", deliver="earliest", max_bytes=2_000)

    assert ids(cut) == [0]
    assert cut.more


async def _taken(way, inbox, begun, **options):
    """Return the messages that are delivered when the leases of those before have ended."""
    await way.clock.advance(60)
    worker = await way.client()
    return await worker.fetch(
        inbox, group_name="g", deliver="earliest", max_wait_ms=0, begun=begun, **options
    )


async def test_a_lease_that_ends_while_its_message_is_handled_is_a_death(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    deaths = [[one.deaths for one in await _taken(way, inbox, True)]]
    for _ in range(3):
        again = await _taken(way, inbox, True)
        deaths.append([one.deaths for one in again])
        begun = [one.msg_id for one in again if one.text == "a"]
        await client.extend(inbox, "g", begun, begun=True, consumer=again[0].consumer)

    assert deaths == [[0, 0], [1, 1], [2, 1], [3, 1]]


async def test_a_lease_of_what_nobody_began_ends_without_a_death(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    first = await _taken(way, inbox, False)
    await client.extend(inbox, "g", ids(first)[1:], begun=True, consumer=first[0].consumer)
    again = await _taken(way, inbox, False)
    assert [(one.text, one.deaths) for one in again] == [("a", 0), ("b", 1)]


async def test_what_waits_again_is_not_begun_any_more(way, client, inbox):
    await send_all(client, inbox, "a", "b", "c")
    first = await _taken(way, inbox, True)
    await client.extend(inbox, "g", [0, 1], begun=False, consumer=first[0].consumer)
    await client.extend(inbox, "g", [1, 2], consumer=first[0].consumer)
    await way.clock.advance(60)
    again = await _taken(way, inbox, True)
    assert [(one.text, one.deaths) for one in again] == [("a", 0), ("b", 0), ("c", 1)]


async def test_what_is_given_back_or_fetched_again_or_undone_is_no_death(way, client, inbox):
    await client.send(inbox, "a")
    worker = await way.client()
    for _ in range(3):
        [held] = await worker.fetch(inbox, group_name="g", deliver="earliest", begun=True)
        assert held.deaths == 0
    await worker.nack(held)
    [again] = await worker.fetch(inbox, group_name="g", begun=True, max_wait_ms=0)
    assert (again.deaths, again.delivery_count) == (0, 4)
    await worker.nack(again, delay=120)
    [later] = [*await _taken(way, inbox, True), *await _taken(way, inbox, True)]
    assert later.deaths == 0


async def test_deaths_are_those_of_a_group_and_forgotten_by_a_reset(way, client, inbox):
    await client.send(inbox, "a")
    await _taken(way, inbox, True)
    [other] = await client.fetch(inbox, group_name="h", deliver="earliest")
    [again] = await _taken(way, inbox, True)
    assert (other.deaths, again.deaths) == (0, 1)
    [anew] = await _taken(way, inbox, True, force_deliver=True)
    assert (anew.deaths, anew.delivery_count) == (0, 1)
