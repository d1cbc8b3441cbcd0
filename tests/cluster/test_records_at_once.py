"""Several records of one gateway on their way to the log; each client's commands in order."""

import asyncio

import pytest
from calls import call

from mq9.engine.commands import Call, PlainSend, SendBatch
from mq9.errors import LimitReached, Mq9Error, OutcomeUnknown, Unavailable
from mq9.protocol import requests

from .failing_cluster import TRYING_S, Cluster, begun, fetch, in_simulated_time, send

PLAIN = requests.Send()
SLOW_S = 0.5  # that a slow log takes for each record


async def begin_one_by_one(backend, clients):
    """Begin a SEND of each client, each in a record of its own."""
    return [await begun(backend.run(send(), client)) for client in clients]


def batch(*payloads, options=PLAIN):
    made = SendBatch()
    assert made.add([PlainSend(options, None, one) for one in payloads]) == len(payloads)
    return Call(made, "box")


def begin(backend, one, client="sender"):
    """Begin a command; what is told of it."""
    told = []
    backend.begin(one, client, told.append)
    return told


@in_simulated_time
async def test_records_of_several_clients_go_to_the_log_at_once(cluster):
    cluster.log.is_slow = True
    sending = await begin_one_by_one(cluster.backend, ["a", "b", "c"])
    async with asyncio.timeout(SLOW_S):
        assert await asyncio.gather(*sending) == [0, 1, 2]
    assert cluster.log.most_at_once == 3


@in_simulated_time
async def test_commands_wait_some_milliseconds_for_the_record_before_them(cluster):
    """They go together then. Few long records cost less than many short ones."""
    before = (await cluster.log.last()).sequence
    cluster.log.is_slow = True
    sending = [asyncio.create_task(cluster.backend.run(send(), "a"))]
    await asyncio.sleep(0.005)
    sending += [asyncio.create_task(cluster.backend.run(send(), client)) for client in "bc"]
    await asyncio.sleep(0.004)
    assert cluster.log.most_at_once == 1
    assert await asyncio.gather(*sending) == [0, 1, 2]
    assert cluster.log.most_at_once == 2
    assert (await cluster.log.last()).sequence == before + 2


@in_simulated_time
async def test_no_more_than_four(cluster):
    cluster.log.is_slow = True
    sending = await begin_one_by_one(cluster.backend, "abcd")
    more = [asyncio.create_task(cluster.backend.run(send(), client)) for client in "efghi"]
    before = (await cluster.log.last()).sequence
    assert await asyncio.gather(*sending, *more) == list(range(9))
    assert cluster.log.most_at_once == 4
    assert (await cluster.log.last()).sequence - before <= 6  # the others went together


@in_simulated_time
async def test_commands_of_one_client_are_in_one_record_at_a_time(cluster):
    cluster.log.is_slow = True
    sending = await begin_one_by_one(cluster.backend, ["a", "a", "a", "a"])
    assert await asyncio.gather(*sending) == [0, 1, 2, 3]
    assert cluster.log.most_at_once == 1


@in_simulated_time
async def test_what_follows_a_lost_record_waits_for_its_end_and_others_do_not(cluster):
    cluster.log.is_unreachable = True
    lost = await begun(cluster.backend.run(send(b"lost"), "a"))
    cluster.log.is_unreachable = False
    later = await begun(cluster.backend.run(send(b"later"), "a"))
    async with asyncio.timeout(1):
        assert await cluster.backend.run(send(b"another"), "b") == 0
    with pytest.raises(OutcomeUnknown):
        await lost
    with pytest.raises(Unavailable, match="was not carried out; try again"):  # it waited too long
        await later
    assert await cluster.backend.run(send(b"last"), "a") == 1


@in_simulated_time
async def test_what_follows_a_refused_record_is_carried_out(cluster):
    cluster.log.error = Unavailable("the log is full")
    with pytest.raises(Unavailable, match="full"):
        await cluster.backend.run(send(), "a")
    cluster.log.error = None
    assert await cluster.backend.run(send(), "a") == 0


@in_simulated_time
async def test_each_is_told_whose_record_was_damaged_on_its_way(cluster):
    """The log confirms both after both were left out."""
    cluster.log.tells_late = cluster.log.damages = True
    sending = await begin_one_by_one(cluster.backend, ["a", "b"])
    cluster.log.damages = False
    async with asyncio.timeout(1):
        for one in sending:
            with pytest.raises(Unavailable, match="damaged"):
                await one
    assert cluster.backend.left_out == 2


@in_simulated_time
async def test_closing_tells_all_of_whom_it_is_not_known(cluster):
    cluster.log.is_unreachable = True
    sending = await begin_one_by_one(cluster.backend, ["a", "b"])
    queued = await begun(cluster.backend.run(send(), "a"))
    await cluster.backend.close()
    for one in (*sending, queued):
        with pytest.raises(Mq9Error):
            await one


@in_simulated_time
async def test_a_batch_takes_sends_until_its_record_is_begun(cluster):
    cluster.log.is_slow = True
    before = begin(cluster.backend, batch(b"1"))
    await asyncio.sleep(0.1)
    one = batch(b"2")
    queued = begin(cluster.backend, one)
    assert one.request.add([PlainSend(PLAIN, None, b"3")]) == 1
    after = begin(cluster.backend, send())
    await asyncio.sleep(SLOW_S)
    assert one.request.add([PlainSend(PLAIN, None, b"4")]) == 0
    await asyncio.sleep(2 * SLOW_S)
    assert [outcome.result() for outcome in before + queued + after] == [[0], [1, 2], 3]


@in_simulated_time
async def test_every_gateway_has_the_same_of_a_batch(cluster):
    another = await cluster.open()
    cluster.log.is_slow = True
    first = begin(cluster.backend, batch(b"1", b"2"))
    second = begin(cluster.backend, send(b"3"), "another")
    third = begin(cluster.backend, batch(b"4", options=requests.Send(tags=("t",))))
    await asyncio.sleep(3 * SLOW_S)
    assert [outcome.result() for outcome in first + second + third] == [[0, 1], 2, [3]]
    for backend in (cluster.backend, another):
        found = (await backend.read(call(requests.Query))).messages
        assert [one.payload for one in found] == [b"1", b"2", b"3", b"4"]
    await another.close()


@in_simulated_time
async def test_a_batch_that_fits_into_no_record_goes_into_several(cluster):
    cluster.max_record = 4_096 + 1_000
    backend = await cluster.open()
    told = begin(backend, batch(*[b"x" * 300] * 5, b"y" * 2_000, b"z"))
    after = begin(backend, send(b"after"))
    await asyncio.sleep(1)
    [outcome], [last] = told, after
    *stored, refused, z = outcome.result()
    assert stored == [0, 1, 2, 3, 4]
    assert isinstance(refused, LimitReached)
    assert "more than the 1000 that the cluster's log takes" in str(refused)
    assert [z, last.result()] == [5, 6]
    await backend.close()


@in_simulated_time
async def test_a_send_that_cannot_be_written_is_refused_alone(cluster):
    """The broker accepts no such text from a client."""
    one = SendBatch()
    one.add([PlainSend(PLAIN, id_, b"x") for id_ in (None, "\ud800", "i")])
    told = begin(cluster.backend, Call(one, "box"))
    await asyncio.sleep(1)
    [outcome] = told
    first, refused, last = outcome.result()
    assert (first, last) == (0, 1)
    assert isinstance(refused, Mq9Error)


@in_simulated_time
async def test_the_sends_of_a_record_that_is_lost_are_told_together(cluster):
    cluster.log.is_unreachable = True
    told = begin(cluster.backend, batch(b"1", b"2"))
    await asyncio.sleep(TRYING_S + 1)
    [outcome] = told
    assert isinstance(outcome.error, OutcomeUnknown)


@in_simulated_time
async def test_a_fetch_comes_after_the_batch_before_it(cluster):
    await cluster.backend.run(fetch(), "sender")
    cluster.log.is_slow = True
    begin(cluster.backend, batch(b"1", b"2"))
    fetched = await cluster.backend.run(fetch(), "sender")
    assert [one.msg_id for one in fetched.messages] == [0, 1]


async def test_commands_may_be_begun_on_another_event_loop(tmp_path):
    cluster = Cluster(tmp_path)
    backend = await cluster.open()
    await backend.run(call(requests.CreateMailbox))

    async def elsewhere():
        told = asyncio.get_running_loop().create_future()
        backend.begin(batch(b"1", b"2"), "sender", told.set_result)
        return (await told).result()

    async def leave():
        backend.begin(batch(b"3"), "sender", lambda _: None)

    assert await asyncio.to_thread(asyncio.run, elsewhere()) == [0, 1]
    await asyncio.to_thread(asyncio.run, leave())
    assert await backend.run(send(), "sender") == 3
    await backend.close()
    with pytest.raises(Mq9Error):
        await asyncio.to_thread(asyncio.run, elsewhere())
