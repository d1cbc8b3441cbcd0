"""A person stops a run: it is cancelled, its asker is told, and the next message begins anew."""

import asyncio

import pytest

from mq9 import ErrorAnswer, RequestFailed
from mq9.cli.settling import Place, stop_run
from tests.worker.graphs import LEASE_S, Steps, ask, held, working

PLACE = Place(mail_address="lawyer", msg_id=0, group_name="lawyer")


class Stuck(Steps):
    """A graph whose step waits for ever, and notes that it was cancelled."""

    def __init__(self):
        super().__init__("read", "write", write=self.wait)
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self, state, config):
        if state["topic"] != "endless":
            return
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_a_stopped_run_is_cancelled_and_its_asker_is_told_by_whom(broker, client):
    steps = Stuck()
    async with working(client, steps.compile(), dead_letter="dead"):
        await ask(client, "endless")
        await steps.begun.wait()
        done = await stop_run(client, PLACE, name="boss")
        assert done == (
            "ada (claimed) gets the error: stopped by boss. Message 0 of lawyer is dropped: group "
            "lawyer does not get it again. The run of lawyer is stopped."
        )
        [told] = await client.query("asker")
        failed = ErrorAnswer.read(told)
        assert (told.correlation_id, told.sender) == ("endless", "boss")
        assert (failed.code, failed.reason) == ("failed", "stopped by boss")
        await broker.clock.advance(LEASE_S / 3 + 1)
        assert steps.cancelled.is_set()
        assert await held(client) == 0

        again = await stop_run(client, PLACE, name="boss")
        assert again == "Message 0 of lawyer is not leased: there is no run to stop."

        await ask(client, "next")
        await broker.clock.advance(1)
        assert steps.ran == ["read", "write", "read", "write"]
        _, answer = await client.query("asker")
        assert answer.json()["topic"] == "next"
        assert await client.query("dead") == []


async def test_who_waits_for_the_answer_of_a_stopped_run_raises(broker, client):
    steps = Stuck()
    async with working(client, steps.compile()):
        waiting = asyncio.create_task(client.request("lawyer", {"topic": "endless"}, timeout=60))
        await steps.begun.wait()
        await stop_run(client, PLACE, name="boss")
        with pytest.raises(RequestFailed, match="stopped by boss"):
            await waiting


async def test_a_message_that_another_worker_holds_by_now_is_left_alone(broker, client):
    steps = Stuck()
    async with working(client, steps.compile()):
        await ask(client, "endless")
        await steps.begun.wait()
        elsewhere = Place(mail_address="lawyer", msg_id=0, group_name="others")
        done = await stop_run(client, elsewhere, name="boss")
        assert done == "Message 0 of lawyer is not leased: there is no run to stop."
        await broker.clock.advance(LEASE_S)
        assert not steps.cancelled.is_set()
        assert await client.query("asker") == []


async def test_a_run_that_goes_on_with_an_answer_is_left_alone(client):
    await client.mailbox_create(name="lawyer.answers")
    await client.send("lawyer.answers", "yes", reply_to="asker", correlation_id="q")
    await client.fetch("lawyer.answers", group_name="lawyer", consumer="lawyer/1")
    answer = Place(mail_address="lawyer.answers", msg_id=0, group_name="lawyer")
    assert await stop_run(client, answer, name="boss") == (
        "Message 0 of lawyer.answers is an answer that resumes a run: such a run cannot be stopped."
    )
    assert await client.query("asker") == []
    status = await client.mailbox_status("lawyer.answers", group_name="lawyer")
    assert [one.count for one in status.group.leased] == [1]
