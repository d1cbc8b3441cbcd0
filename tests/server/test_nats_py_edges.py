"""nats-py alone where things end early: timeouts, closing, draining, and a server that restarts."""

import asyncio
import json

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from waiting import until

WAITING_FETCH = json.dumps(
    {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 60_000}}
).encode()


async def ask(connection, verb, body=b"", headers=None):
    """Make a request; its reply as JSON. What is not bytes is sent as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await connection.request(f"$mq9.AI.{verb}", payload, timeout=60, headers=headers)
    return json.loads(reply.data)


async def group_of(connection):
    """What the mailbox tells of the group `g`."""
    return (await ask(connection, "MAILBOX.STATUS.inbox", {"group_name": "g"}))["group"]


@pytest.fixture
async def connection(hosted):
    """Return a connection of nats-py that has made a mailbox `inbox`."""
    connection = await hosted.nats()
    assert (await ask(connection, "MAILBOX.CREATE", {"name": "inbox"}))["error"] == ""
    return connection


async def test_a_request_that_timed_out_leaves_no_lease(hosted, connection):
    impatient = await hosted.nats()
    with pytest.raises(NatsTimeoutError):
        # In the old style a request has a subscription of its own, which ends with the request.
        await impatient.request("$mq9.AI.MSG.FETCH.inbox", WAITING_FETCH, 0.1, old_style=True)
    await impatient.flush()
    await until(lambda: not hosted.server.hub.in_work)
    await ask(connection, "MSG.SEND.inbox", b"x")

    assert (await group_of(connection))["leased"] == []


async def test_a_waiter_that_closed_its_connection_leaves_no_lease(hosted, connection):
    gone = await hosted.nats()
    asking = asyncio.create_task(ask(gone, "MSG.FETCH.inbox", WAITING_FETCH))
    await until(lambda: hosted.broker.waiting)
    await gone.close()
    asking.cancel()  # nats-py leaves its caller waiting
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not hosted.broker.waiting)
    await ask(connection, "MSG.SEND.inbox", b"x")

    assert (await group_of(connection))["leased"] == []


async def test_a_fetch_without_a_reply_subject_does_not_even_make_a_group(hosted, connection):
    await ask(connection, "MSG.SEND.inbox", b"x")
    await connection.publish("$mq9.AI.MSG.FETCH.inbox", WAITING_FETCH)
    await connection.flush()
    await until(lambda: not hosted.server.hub.in_work)

    assert (await group_of(connection))["exists"] is False


async def test_a_mailbox_that_goes_tells_one_who_waits(hosted, connection):
    asking = asyncio.create_task(ask(await hosted.nats(), "MSG.FETCH.inbox", WAITING_FETCH))
    await until(lambda: hosted.broker.waiting)
    await ask(connection, "MAILBOX.DROP.inbox")

    assert (await asking)["code"] == "mailbox_not_found"


async def test_many_requests_at_once_get_each_its_own_reply(connection):
    names = [f"box{number}" for number in range(200)]
    made = await asyncio.gather(
        *(ask(connection, "MAILBOX.CREATE", {"name": name}) for name in names)
    )
    assert [reply["mail_address"] for reply in made] == names


async def test_a_drained_connection_has_heard_what_was_on_its_way(hosted, connection):
    leaving, heard = await hosted.nats(), []

    async def hear(message):
        heard.append(message.data)

    await leaving.subscribe("news", cb=hear)
    await leaving.flush()
    sent = [b"%d" % number for number in range(50)]
    for payload in sent:
        await connection.publish("news", payload)
    # The PING of nats-py's flush may overtake what it has not sent yet; a request does not.
    assert (await ask(connection, "MAILBOX.STATUS.inbox"))["error"] == ""
    await leaving.drain()

    assert leaving.is_closed
    assert heard == sent
    await until(lambda: hosted.server.connections == 1)


async def test_what_a_client_listened_to_it_hears_again_after_a_restart(hosted):
    back = asyncio.Event()

    async def note_back():
        back.set()

    async def quiet(_error):
        """The server is away for a moment."""

    connection = await hosted.nats(
        allow_reconnect=True,
        reconnected_cb=note_back,
        error_cb=quiet,
        reconnect_time_wait=0.01,
        max_reconnect_attempts=-1,
    )
    news = await connection.subscribe("news.*")
    await ask(connection, "MAILBOX.CREATE", {"name": "inbox"})
    _, port = hosted.server.address

    await hosted.server.close()
    await until(lambda: not connection.is_connected)
    await hosted.server.start(port=port)
    await asyncio.wait_for(back.wait(), 60)

    await connection.publish("news.today", b"x", headers={"A": "b"})
    message = await news.next_msg(timeout=60)
    assert (message.subject, message.data, message.headers) == ("news.today", b"x", {"A": "b"})
    assert (await ask(connection, "MSG.SEND.inbox", b"y"))["msg_id"] == 0


@pytest.mark.parametrize(
    ("verb", "body", "headers", "code", "told"),
    [
        ("PUBLIC.LIST.inbox", b"", {}, "invalid_request", "PUBLIC.LIST"),
        ("MAILBOX.CREATE", b"[1]", {}, "invalid_request", "object"),
        ("MAILBOX.CREATE", {"name": "a", "prefix": "b"}, {}, "invalid_request", "prefix"),
        ("MSG.SEND.inbox", b"x", {"mq9-priority": "high"}, "invalid_request", "'high'"),
        ("MSG.SEND.inbox", b"x", {"mq9-ttl": "0"}, "invalid_request", "ttl"),
        ("MSG.SEND.inbox", b"x", {"mq9-delay": "9", "mq9-ttl": "9"}, "invalid_request", "ttl"),
        ("MSG.SEND.inbox", b"x", {"mq9-tags": "a,,b"}, "invalid_request", "tags"),
        ("MSG.FETCH.inbox", {"deliver": "from_id"}, {}, "invalid_request", "from_id"),
        ("MSG.FETCH.inbox", {"config": {"num_msgs": 1001}}, {}, "invalid_request", "num_msgs"),
        ("MSG.FETCH.inbox", b"", {"mq9-encoding": "hex"}, "invalid_request", "hex"),
        ("MSG.ACK.inbox", {"msg_id": 0}, {}, "invalid_request", "group_name"),
        ("MSG.NACK.inbox", {"group_name": "g", "msg_id": 9}, {}, "message_not_found", "message"),
        ("MSG.QUERY.inbox", {"limit": 0}, {}, "invalid_request", "limit"),
        ("MSG.DELETE.inbox.x", b"", {}, "invalid_request", "msg_id"),
        ("AGENT.REGISTER", {"payload": "nameless"}, {}, "invalid_request", "name"),
        ("AGENT.REPORT", {"name": "nobody"}, {}, "agent_not_found", "agent not found"),
        ("AGENT.DISCOVER", {"limit": 1001}, {}, "invalid_request", "limit"),
    ],
)
async def test_what_is_wrong_is_named(connection, verb, body, headers, code, told):
    reply = await ask(connection, verb, body, headers or None)
    assert reply["code"] == code
    assert told in reply["error"]
