"""A request that comes late to the log is refused, by every gateway alike."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress

import pytest
from calls import call
from nats_server import NatsServer
from waiting import until

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.cluster.records import DEADLINE_MS, LogRecord, decode, encode
from mq9.engine.codec import encode_call
from mq9.errors import OutcomeUnknown, Unavailable
from mq9.protocol import requests

from .clusters import Cluster, Members
from .failing_cluster import begun, fetch, in_simulated_time, send
from .test_backend import msg_ids

WAIT_S = 5  # of a client for a reply


async def bodies(backend, address="box"):
    found = await backend.read(call(requests.Query, address=address))
    return [one.payload for one in found.messages]


@in_simulated_time
async def test_what_a_client_gave_up_has_no_effect_after_what_it_was_answered_later(cluster):
    another = await cluster.open()
    cluster.log.delay_s = 3 * WAIT_S
    first = await begun(cluster.backend.run(send(b"first"), "asker"))
    await asyncio.sleep(WAIT_S)
    cluster.log.delay_s = 0
    assert await another.run(send(b"second"), "asker") == 0
    before = (await cluster.log.last()).sequence

    with pytest.raises(Unavailable, match="was not carried out; try again"):
        await first

    assert (await cluster.log.last()).sequence == before + 1  # it did come to the log
    for backend in (cluster.backend, another):
        assert await bodies(backend) == [b"second"]
    assert (cluster.backend.late, another.late) == (1, 0)
    newcomer = await cluster.open()
    assert await bodies(newcomer) == [b"second"]
    await newcomer.close()
    await another.close()


@in_simulated_time
async def test_one_that_was_told_that_the_outcome_is_unknown_is_refused_all_the_same(cluster):
    cluster.log.is_late = True
    cluster.log.late_s = WAIT_S
    with pytest.raises(OutcomeUnknown):
        await cluster.backend.run(send(), "asker")
    cluster.log.is_late = False
    await asyncio.sleep(2 * WAIT_S)
    assert await bodies(cluster.backend) == []
    assert cluster.backend.late == 1


@in_simulated_time
async def test_what_comes_in_time_has_its_effect(cluster):
    cluster.log.delay_s = DEADLINE_MS / 1000 - 1
    assert await cluster.backend.run(send(b"in time"), "asker") == 0
    assert await bodies(cluster.backend) == [b"in time"]


@in_simulated_time
async def test_what_waits_for_an_earlier_record_for_too_long_is_not_appended(cluster):
    cluster.log.delay_s = 2 * WAIT_S
    first = await begun(cluster.backend.run(send(b"first"), "one"))
    second = await begun(cluster.backend.run(send(b"second"), "one"))
    third = await begun(cluster.backend.run(fetch(), "one"))
    for refused in (first, second, third):
        with pytest.raises(Unavailable, match="was not carried out; try again"):
            await refused
    assert (await cluster.log.last()).sequence == 2  # the mailbox, and the first
    cluster.log.delay_s = 0
    assert await cluster.backend.run(send(b"fourth"), "one") == 0


@in_simulated_time
async def test_what_reached_a_suspended_process_is_not_appended_when_that_goes_on(cluster):
    await asyncio.sleep(60)
    suspended_ms = int(asyncio.get_running_loop().time() * 1000) - 10_000
    cluster.backend.sent_ms = lambda: suspended_ms
    with pytest.raises(Unavailable, match="was not carried out; try again"):
        await cluster.backend.run(send(), "asker")


@in_simulated_time
async def test_a_lease_that_reached_nobody_is_undone_however_late_that_comes(cluster):
    await cluster.backend.run(send(), "asker")
    cluster.log.is_slow = True
    fetching = await begun(cluster.backend.run(fetch(), "asker"))
    fetching.cancel()
    cluster.log.is_slow = False
    cluster.log.delay_s = 6 * WAIT_S
    await asyncio.sleep(4)
    cluster.log.delay_s = 0
    await asyncio.sleep(8 * WAIT_S)
    assert cluster.backend.late == 1  # the first record of the undo
    assert await msg_ids(cluster.backend.run(fetch("two"), "asker")) == [0]


@in_simulated_time
async def test_the_time_of_the_state_counts_where_the_clock_of_the_log_is_set_back(cluster):
    """A delayed record has an earlier instant then than those before it."""
    another = await cluster.open()
    cluster.log.delay_s = 2 * WAIT_S
    first = await begun(cluster.backend.run(send(b"first"), "asker"))
    cluster.log.delay_s = 0
    await asyncio.sleep(WAIT_S + 1)
    await another.run(send(b"second"), "asker")
    cluster.set_clock(-60)
    with pytest.raises(Unavailable):
        await first
    for backend in (cluster.backend, another):
        assert await bodies(backend) == [b"second"]
    await another.close()


@in_simulated_time
async def test_a_record_of_an_older_release_has_no_deadline(cluster):
    old = LogRecord("older", 1, 0, (encode_call(send(b"of an older release")),))
    assert b"deadline" not in encode(old)
    assert decode(encode(old)) == old
    await asyncio.sleep(3_600)
    await cluster.log.append(encode(old), "older.1")
    assert await bodies(cluster.backend) == [b"of an older release"]


class HoldingProxy:
    """Passes bytes on to a server; holds those of its connections back when a test says so."""

    def __init__(self, port):
        self._port = port
        self._tasks = []
        self._writers = []
        self._held = []
        self.url = ""
        self.is_holding = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exception):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader, writer):
        up, down = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, down]
        self._tasks += [
            asyncio.create_task(self._pass_up(reader, down)),
            asyncio.create_task(self._pass_down(up, writer)),
        ]

    async def _pass_up(self, reader, writer):
        is_new = not self.is_holding  # one that replaces a held connection is not held
        while data := await reader.read(65_536):
            if self.is_holding and is_new:
                self._held.append((writer, data))
            else:
                writer.write(data)
                await writer.drain()

    async def _pass_down(self, reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    @property
    def held(self):
        """The held records, in order."""
        return b"".join(data for _, data in self._held)

    async def release(self):
        """Let go of what was held."""
        self.is_holding = False
        for writer, data in self._held:
            writer.write(data)
            await writer.drain()


async def ask(member, body):
    """Send through one gateway; its reply."""
    request = PublishedRequest("$mq9.AI.MSG.SEND.inbox", body, (), BrokerSession("asker"))
    return json.loads(await member.broker.handle(request))


class Behind(Members):
    """Gateways on one server, some of them behind a proxy."""

    def __init__(self, directory, stack):
        options = ("--jetstream", f"--store_dir={directory}/store")
        Cluster.__init__(self, directory, stack, NatsServer(directory / "nats", *options))
        self._stacks = {}
        self._url = self.servers.url

    @property
    def url(self):
        return self._url

    @url.setter
    def url(self, url):
        self._url = url


@pytest.mark.programs
@pytest.mark.timeout(60)
async def test_an_append_that_a_network_holds_back_is_refused_by_all_gateways(tmp_path):
    async with AsyncExitStack() as stack:
        members = Behind(tmp_path, stack)
        two = await members.start("two")
        proxy = await stack.enter_async_context(HoldingProxy(members.servers.port))
        members.url, direct = proxy.url, members.url
        one = await members.start("one")
        members.url = direct
        await members.inbox()
        proxy.is_holding = True

        first = asyncio.create_task(ask(one, b"first"))
        await asyncio.wait([first], timeout=WAIT_S)  # then its client gives up
        assert not first.done()
        assert b"MQ9.append" in proxy.held
        assert await ask(two, b"second") == {"error": "", "msg_id": 0}
        await proxy.release()

        refused = await first
        assert refused["code"] == "unavailable"
        assert "was not carried out; try again" in refused["error"]
        records = await two.backend.log.read(1)
        [late] = [logged for logged in records if b"first" in logged.data]  # once
        record = decode(late.data)
        assert record.gateway == one.name
        assert late.now_ms > record.deadlines_ms[0]
        for member in (one, two):
            await until(lambda member=member: member.backend.sequence >= late.sequence)
            assert await bodies(member.backend, "inbox") == [b"second"]
        assert (one.backend.late, two.backend.late) == (1, 0)
        assert (await members.call("verify"))[1]["equal"]
