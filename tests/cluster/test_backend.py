"""A gateway's backend, on a log that fails as a test says."""

import asyncio
import json
from zlib import crc32

import pytest
from calls import call

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.errors import NotConnected, Unavailable
from mq9.protocol import requests

from .failing_cluster import TRYING_S, begun, fetch, in_simulated_time, send


def of_a_newer_release():
    """A record in a frame whose version this release does not know."""
    version, body = 2, b"new"
    return b"%c%b%b" % (version, crc32(body, version).to_bytes(4), body)


QUERY = call(requests.Query)


@in_simulated_time
async def test_a_gateway_that_fails_unexpectedly_answers_nothing_any_more(cluster):
    cluster.log.error = KeyError("seq")
    with pytest.raises(Unavailable, match="outcome is unknown"):
        await cluster.backend.run(send())
    cluster.log.error = None
    with pytest.raises(Unavailable, match="the gateway failed"):
        await cluster.backend.run(send())


@in_simulated_time
async def test_a_gateway_that_cannot_apply_says_so(cluster):
    await cluster.log.append(of_a_newer_release(), "another.1")
    with pytest.raises(Unavailable, match="cannot read the cluster's log"):
        await cluster.backend.read(QUERY)


@in_simulated_time
async def test_what_is_no_record_is_left_out(cluster):
    await cluster.log.append(b"of another program", "another.1")
    await cluster.backend.run(send())
    another = await cluster.open()
    for backend in (cluster.backend, another):
        assert await msg_ids(backend.read(QUERY)) == [0]
        assert backend.left_out == 1
    await another.close()


@in_simulated_time
async def test_what_is_damaged_on_its_way_from_the_log_is_read_again(cluster):
    another = await cluster.open()
    cluster.log.damages_heard = True
    await cluster.backend.run(send())
    cluster.log.damages_heard = False
    assert await msg_ids(another.read(QUERY)) == [0]
    assert another.left_out == cluster.backend.left_out == 0
    await another.close()


@in_simulated_time
async def test_who_waits_for_what_is_damaged_on_its_way_to_the_log_is_told(cluster):
    for is_slow in (False, True):  # to say that it has it
        cluster.log.tells_late = is_slow
        cluster.log.damages = True
        with pytest.raises(Unavailable, match="damaged"):
            await cluster.backend.run(send())
        cluster.log.damages = False
    assert await cluster.backend.run(send()) == 0


@in_simulated_time
async def test_closing_finishes_what_was_accepted(cluster):
    sends = [cluster.backend.run(send(), f"asker{number}") for number in range(600)]
    sending = [asyncio.create_task(one) for one in sends]
    await asyncio.sleep(0)
    await cluster.backend.close()
    assert sorted(await asyncio.gather(*sending)) == list(range(600))


@in_simulated_time
async def test_closing_ends_though_the_log_is_unreachable(cluster):
    cluster.log.is_unreachable = True
    appended, queued = [await begun(cluster.backend.run(send())) for _ in range(2)]
    reading = await begun(cluster.backend.read(QUERY))
    async with asyncio.timeout(11):
        await cluster.backend.close()
        with pytest.raises(Unavailable, match="outcome is unknown"):
            await appended
        with pytest.raises(NotConnected):
            await queued
        with pytest.raises(NotConnected):
            await reading


@in_simulated_time
async def test_closing_waits_for_nobody_who_has_left(cluster):
    cluster.log.is_unreachable = True
    appended, queued = [await begun(cluster.backend.run(send())) for _ in range(2)]
    queued.cancel()
    await asyncio.sleep(TRYING_S - 5)
    async with asyncio.timeout(6):
        await cluster.backend.close()
    with pytest.raises(Unavailable, match="outcome is unknown"):
        await appended


@in_simulated_time
async def test_a_read_sees_what_was_sent_while_an_earlier_one_asked_the_log(cluster):
    """What the log tells the earlier one may be from before that."""
    cluster.log.is_unreachable = True
    earlier = await begun(cluster.backend.read(QUERY))
    later = await begun(cluster.backend.read(QUERY))
    cluster.log.is_unreachable = False
    with pytest.raises(Unavailable):
        await earlier
    assert (await later).messages == ()


@in_simulated_time
async def test_what_was_applied_is_answered_though_the_log_does_not_say_that_it_has_it(cluster):
    cluster.log.loses_acks = True
    async with asyncio.timeout(1):
        assert [await cluster.backend.run(send()) for _ in range(3)] == [0, 1, 2]


async def msg_ids(fetching):
    return [message.msg_id for message in (await fetching).messages]


@in_simulated_time
async def test_a_fetch_comes_after_what_its_asker_has_sent_and_not_been_told_of(cluster):
    await cluster.backend.run(fetch(), "asker")
    cluster.log.is_slow = True
    sending = await begun(cluster.backend.run(send(), "asker"))
    assert await msg_ids(cluster.backend.run(fetch(), "asker")) == [0]
    assert await sending == 0


@in_simulated_time
async def test_what_is_only_begun_is_in_order_with_what_its_asker_fetches(cluster):
    told = []
    await cluster.backend.run(fetch(), "asker")
    cluster.log.is_asked_late = True
    before = await begun(cluster.backend.run(fetch(), "asker"))
    cluster.log.is_asked_late = False
    cluster.log.is_slow = True
    cluster.backend.begin(send(), "asker", told.append)
    after = await begun(cluster.backend.run(fetch(), "asker"))
    assert await msg_ids(before) == []
    assert await msg_ids(after) == [0]
    assert [outcome.result() for outcome in told] == [0]


@in_simulated_time
async def test_a_fetch_comes_before_what_its_asker_sends_while_the_log_is_asked(cluster):
    await cluster.backend.run(fetch(), "asker")
    cluster.log.is_asked_late = True
    fetching = await begun(cluster.backend.run(fetch(), "asker"))
    sending = asyncio.create_task(cluster.backend.run(send(), "asker"))
    assert await msg_ids(fetching) == []
    assert await sending == 0


@in_simulated_time
async def test_a_fetch_that_is_cancelled_after_it_was_overtaken_leases_nothing(cluster):
    await cluster.backend.run(send(), "another")
    fetching = asyncio.create_task(cluster.backend.run(fetch(), "asker"))
    sending = asyncio.create_task(cluster.backend.run(send(), "asker"))
    await asyncio.sleep(0)
    fetching.cancel()
    await sending
    fetched = await cluster.backend.run(fetch(consumer="two"), "another")
    assert [message.delivery_count for message in fetched.messages] == [1, 1]


@in_simulated_time
async def test_who_waits_for_mail_beside_others_is_in_no_log(cluster):
    await cluster.backend.run(fetch(), "asker")
    before = (await cluster.log.last()).sequence
    await asyncio.gather(*(cluster.backend.run(fetch(), "asker") for _ in range(3)))
    assert (await cluster.log.last()).sequence == before


@in_simulated_time
async def test_a_lease_that_reached_nobody_is_undone_once_the_log_is_there_again(cluster):
    await cluster.backend.run(send())
    cluster.log.is_slow = True
    fetching = await begun(cluster.backend.run(fetch()))
    fetching.cancel()
    cluster.log.is_unreachable = True  # for what undoes it
    await asyncio.sleep(5)
    cluster.log.is_unreachable = False
    await asyncio.sleep(TRYING_S)
    assert await msg_ids(cluster.backend.run(fetch("two"))) == [0]


@in_simulated_time
async def test_a_reply_that_reached_who_asked_again_elsewhere_is_not_undone(cluster):
    """The first FETCH comes to the log after the second, when nobody waits for it any more."""
    another = await cluster.open()
    await another.run(send())
    cluster.log.is_slow = True
    fetching = await begun(cluster.backend.run(fetch(request_id="r")))
    fetching.cancel()
    cluster.log.is_slow = False
    assert await msg_ids(another.run(fetch(request_id="r"))) == [0]
    await asyncio.sleep(1)
    assert await msg_ids(another.run(fetch("two"))) == []
    await another.close()


@in_simulated_time
async def test_what_was_given_up_and_is_applied_later_leases_nothing(cluster):
    await cluster.backend.run(send())
    cluster.log.is_late = True
    with pytest.raises(Unavailable, match="outcome is unknown"):
        await cluster.backend.run(fetch())
    cluster.log.is_late = False
    await asyncio.sleep(1)
    assert await msg_ids(cluster.backend.run(fetch("two"))) == [0]


@in_simulated_time
async def test_what_falls_due_is_given_when_the_log_says_so(cluster):
    """Whatever the clock of the gateway's machine shows."""
    loop = asyncio.get_running_loop()
    config = {"max_wait_ms": 120_000, "lease_ms": 600_000, "redeliver_own": False}
    wanted = json.dumps({"group_name": "g", "config": config}).encode()
    for wrong_ms in (-60_000, 0, 2_000, 60_000):
        broker = await cluster.open_broker(wrong_ms)
        begun_s = loop.time()
        await cluster.backend.run(send(delay=20))
        before = (await cluster.log.last()).sequence
        asked = PublishedRequest("$mq9.AI.MSG.FETCH.box", wanted, (), BrokerSession("one"))
        assert len(json.loads(await broker.handle(asked))["messages"]) == 1
        assert loop.time() - begun_s == pytest.approx(20, abs=0.1)
        assert (await cluster.log.last()).sequence - before <= 2
        await broker.close()


@in_simulated_time
async def test_time_goes_on_slowly_until_the_log_has_caught_up_after_its_clock_was_set_back(
    cluster,
):
    await cluster.backend.run(send(ttl=100))
    cluster.set_clock(-60)
    await asyncio.sleep(90)
    assert len((await cluster.backend.read(QUERY)).messages) == 1
    await asyncio.sleep(30)
    assert (await cluster.backend.read(QUERY)).messages == ()


@in_simulated_time
async def test_who_waits_is_given_what_the_gateway_has_not_heard_of(cluster):
    broker = await cluster.open_broker(0)
    wanted = json.dumps({"group_name": "g", "config": {"max_wait_ms": 20_000}}).encode()
    waiting = await begun(
        broker.handle(PublishedRequest("$mq9.AI.MSG.FETCH.box", wanted, (), BrokerSession("one")))
    )
    cluster.log.is_unheard = True
    await cluster.backend.run(send())
    async with asyncio.timeout(5):
        assert len(json.loads(await waiting)["messages"]) == 1
    await broker.close()
