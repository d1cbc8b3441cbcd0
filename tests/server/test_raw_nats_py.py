"""The protocol with nats-py alone: no line of our client is used here."""

import asyncio
import base64
import json

import nats
import pytest
from nats.errors import MaxPayloadError, NoRespondersError
from serving import Serving
from waiting import until

START = {"deliver": "earliest"}


class Asker:
    """Makes requests of mq9 over a connection of nats-py."""

    def __init__(self, connection):
        self.connection = connection

    async def __call__(self, verb, body=None, timeout=30, **headers):
        payload = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await self.connection.request(
            f"$mq9.AI.{verb}", payload, timeout=timeout, headers=named or None
        )
        return json.loads(reply.data)


@pytest.fixture
async def ask(hosted):
    return Asker(await hosted.nats())


@pytest.fixture
async def inbox(ask):
    assert await ask("MAILBOX.CREATE", {"name": "inbox"}) == {"error": "", "mail_address": "inbox"}
    return "inbox"


def texts(reply):
    assert reply["error"] == "", reply
    return [message["payload"] for message in reply["messages"]]


async def test_a_mailbox_is_made_renewed_described_and_dropped(hosted, ask):
    made = await ask("MAILBOX.CREATE", {"name": "box", "ttl": 60, "desc": "d", "public": True})
    assert made["mail_address"] == "box"
    again = await ask("MAILBOX.CREATE", {"name": "box"})
    assert (again["code"], again["error"]) == ("mailbox_exists", "mailbox box already exists")
    await hosted.clock.advance(59)
    assert (await ask("MAILBOX.CREATE", {"name": "box", "renew": True}))["error"] == ""
    await hosted.clock.advance(59)
    status = await ask("MAILBOX.STATUS.box")
    assert (status["ttl"], status["stored"], status["desc"]) == (60, 0, "d")
    assert await ask("PUBLIC.LIST") == {
        "error": "",
        "mailboxes": [{"mail_address": "box", "desc": "d"}],
    }
    assert (await ask("MAILBOX.DROP.box"))["error"] == ""
    gone = await ask("MAILBOX.STATUS.box")
    assert (gone["code"], gone["error"]) == (
        "mailbox_not_found",
        "mailbox not found: box does not exist",
    )


async def test_an_empty_payload_makes_a_mailbox_that_cannot_be_guessed(ask):
    addresses = {(await ask("MAILBOX.CREATE", b""))["mail_address"] for _ in range(3)}
    assert len(addresses) == 3
    assert min(map(len, addresses)) >= 25


async def test_messages_come_in_order_of_priority_as_text(ask, inbox):
    for number, priority in enumerate(["normal", "urgent", "critical", "normal"]):
        sent = await ask(f"MSG.SEND.{inbox}", f"m{number}".encode(), mq9_priority=priority)
        assert sent == {"error": "", "msg_id": number}
    fetched = await ask(f"MSG.FETCH.{inbox}", START)
    assert texts(fetched) == ["m2", "m1", "m0", "m3"]
    assert "batch" not in fetched
    assert "encoding" not in fetched["messages"][0]


async def test_bytes_come_back_in_base64_where_asked_or_needed(ask, inbox):
    await ask(f"MSG.SEND.{inbox}", b"\xff\x00")
    await ask(f"MSG.SEND.{inbox}", "grüße".encode())
    plain = (await ask(f"MSG.QUERY.{inbox}"))["messages"]
    assert [one.get("encoding") for one in plain] == ["base64", None]
    assert plain[1]["payload"] == "grüße"
    encoded = (await ask(f"MSG.QUERY.{inbox}", mq9_encoding="base64"))["messages"]
    assert [base64.b64decode(one["payload"]) for one in encoded] == [b"\xff\x00", "grüße".encode()]


async def test_a_group_leases_acks_gives_back_and_renews(hosted, ask, inbox):
    for number in range(3):
        await ask(f"MSG.SEND.{inbox}", f"{number}".encode())
    work = {**START, "group_name": "g", "config": {"consumer": "one", "num_msgs": 2}}
    fetched = await ask(f"MSG.FETCH.{inbox}", work)
    assert texts(fetched) == ["0", "1"]
    assert fetched["more"] is True
    other = {"group_name": "g", "config": {"consumer": "two"}}
    assert texts(await ask(f"MSG.FETCH.{inbox}", other)) == ["2"]

    body = {"group_name": "g", "consumer": "one", "msg_ids": [0, 2], "lease_ms": 90_000}
    extended = await ask(f"MSG.EXTEND.{inbox}", body)
    assert (extended["extended"], extended["lost"]) == ([0], [2])
    nacked = {"group_name": "g", "consumer": "one", "msg_id": 1}
    assert (await ask(f"MSG.NACK.{inbox}", nacked))["error"] == ""
    again = await ask(f"MSG.FETCH.{inbox}", other)
    assert [one["delivery_count"] for one in again["messages"]] == [2, 2]
    ack = {"group_name": "g", "mail_address": inbox, "msg_id": 2, "consumer": "two"}
    assert (await ask(f"MSG.ACK.{inbox}", {**ack, "batch": again["batch"]}))["acked"] == [1, 2]
    await hosted.clock.advance(91)
    assert texts(await ask(f"MSG.FETCH.{inbox}", other)) == ["0"]
    status = await ask(f"MAILBOX.STATUS.{inbox}", {"group_name": "g", "msg_id": 0})
    assert status["group"]["acked"] == 2
    [standing] = status["message"]["groups"]
    assert (standing["state"], standing["consumer"], standing["deliveries"]) == ("leased", "two", 2)


async def test_a_fetch_that_waits_is_woken_by_a_send(ask, inbox, hosted):
    wait = {**START, "group_name": "g", "config": {"max_wait_ms": 60_000}}
    waiting = asyncio.create_task(ask(f"MSG.FETCH.{inbox}", wait))
    await until(lambda: hosted.broker.waiting)
    await ask(f"MSG.SEND.{inbox}", b"news")
    assert texts(await waiting) == ["news"]


async def test_a_fetch_whose_asker_unsubscribes_leases_nothing(ask, inbox, hosted):
    inbox_of_reply = ask.connection.new_inbox()
    subscription = await ask.connection.subscribe(inbox_of_reply)
    body = json.dumps({**START, "group_name": "g", "config": {"max_wait_ms": 60_000}}).encode()
    await ask.connection.publish(f"$mq9.AI.MSG.FETCH.{inbox}", body, reply=inbox_of_reply)
    await until(lambda: hosted.broker.waiting)
    await subscription.unsubscribe()
    await until(lambda: not hosted.broker.waiting)
    await ask(f"MSG.SEND.{inbox}", b"x")
    status = await ask(f"MAILBOX.STATUS.{inbox}", {"group_name": "g"})
    assert (status["group"]["leased"], status["group"]["pending"]["normal"]) == ([], 1)


async def test_keys_tags_delays_lifetimes_ids_and_the_envelope(ask, inbox, hosted):
    await ask(f"MSG.SEND.{inbox}", b"old", mq9_key="k")
    envelope = {
        "mq9_from": "planner",
        "mq9_reply_to": "answers",
        "mq9_correlation_id": "q1",
        "mq9_path": "a,b",
    }
    await ask(f"MSG.SEND.{inbox}", b"new", mq9_key="k", mq9_tags="x,y", **envelope)
    for _ in range(2):
        sent = await ask(f"MSG.SEND.{inbox}", b"once", mq9_id="1", mq9_ttl="10")
        assert sent["msg_id"] == 2
    conflict = await ask(f"MSG.SEND.{inbox}", b"twice", mq9_id="1")
    assert conflict["code"] == "id_conflict"
    assert (await ask(f"MSG.SEND.{inbox}", b"later", mq9_delay="60"))["msg_id"] == -1

    [tagged] = (await ask(f"MSG.QUERY.{inbox}", {"tags": ["y", "x"]}))["messages"]
    assert (tagged["payload"], tagged["key"], tagged["from"], tagged["reply_to"]) == (
        "new",
        "k",
        "planner",
        "answers",
    )
    assert (tagged["correlation_id"], tagged["path"]) == ("q1", ["a", "b"])
    await hosted.clock.advance(60)
    assert texts(await ask(f"MSG.QUERY.{inbox}")) == ["new", "later"]
    assert texts(await ask(f"MSG.QUERY.{inbox}", {"limit": 1})) == ["later"]
    assert texts(await ask(f"MSG.QUERY.{inbox}", {"msg_id": 1})) == ["new"]
    assert (await ask(f"MSG.DELETE.{inbox}.1"))["deleted"] is True
    assert (await ask(f"MSG.DELETE.{inbox}.1"))["code"] == "message_not_found"


async def test_agents_register_report_are_found_and_leave(ask):
    card = {"name": "Oracle", "mailbox": "oracle", "payload": "answers 你好 questions"}
    assert (await ask("AGENT.REGISTER", card))["error"] == ""
    await ask("AGENT.REGISTER", {"name": "Other", "payload": "nothing"})
    await ask("AGENT.REPORT", {"name": "Oracle", "report_info": "running"})
    found = await ask("AGENT.DISCOVER", {"text": "questions"})
    assert found["agents"] == [card]
    assert found["matches"][0]["status"] == {"report_info": "running"}
    assert (await ask("AGENT.DISCOVER", {"limit": 1}))["has_more"] is True
    assert (await ask("AGENT.UNREGISTER", {"name": "Oracle"}))["error"] == ""
    assert (await ask("AGENT.UNREGISTER", {"name": "Oracle"}))["code"] == "agent_not_found"


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("MSG.PEEK.inbox", {}, "invalid_request"),
        ("MSG.SEND", {}, "invalid_address"),
        ("MAILBOX.CREATE", b"{", "invalid_request"),
        ("MAILBOX.CREATE", {"ttl": -1}, "invalid_request"),
        ("MAILBOX.CREATE", {"name": "UPPER"}, "invalid_address"),
        ("MSG.SEND.nowhere", b"x", "mailbox_not_found"),
        ("MSG.ACK.inbox", {"group_name": "g", "msg_id": 7}, "message_not_found"),
    ],
)
async def test_what_is_wrong_is_answered_with_its_code(ask, inbox, verb, body, code):
    assert (await ask(verb, body))["code"] == code


async def test_a_request_without_a_reply_subject_is_carried_out_but_leases_nothing(ask, inbox):
    await ask.connection.publish(f"$mq9.AI.MSG.SEND.{inbox}", b"silent")
    fetch = json.dumps({**START, "group_name": "g"}).encode()
    await ask.connection.publish(f"$mq9.AI.MSG.FETCH.{inbox}", fetch)
    await ask.connection.flush()
    status = await ask(f"MAILBOX.STATUS.{inbox}", {"group_name": "g"})
    assert status["group"]["exists"] is False
    assert texts(await ask(f"MSG.FETCH.{inbox}", {**START, "group_name": "g"})) == ["silent"]


async def test_it_is_a_nats_server_too(ask, hosted):
    with pytest.raises(NoRespondersError):
        await ask.connection.request("nobody.listens", b"", timeout=30)
    heard = []

    async def hear(message):
        heard.append((message.subject, message.data))
        if message.reply:
            await message.respond(b"heard")

    await ask.connection.subscribe("news.*", cb=hear)
    await ask.connection.subscribe("work.>", queue="q", cb=hear)
    other = await hosted.nats()
    await other.subscribe("work.>", queue="q", cb=hear)
    await other.flush()
    reply = await ask.connection.request("news.sport", b"1", timeout=30)
    assert reply.data == b"heard"
    for number in range(10):
        await other.publish(f"work.{number}", b"")
    await other.flush()
    await until(lambda: len(heard) == 11)
    await other.drain()
    with pytest.raises(MaxPayloadError):
        await ask.connection.publish("big", bytes(ask.connection.max_payload + 1))


async def test_it_reconnects_as_to_any_server(tmp_path):
    back = asyncio.Event()

    async def reconnected():
        back.set()

    async with Serving(tmp_path, "--data", str(tmp_path / "mq9.db")) as server:
        connection = await nats.connect(
            server.url,
            reconnected_cb=reconnected,
            reconnect_time_wait=0.05,
            max_reconnect_attempts=-1,
        )
        ask = Asker(connection)
        await ask("MAILBOX.CREATE", {"name": "inbox"})
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(back.wait(), 30)
        assert (await ask("MSG.SEND.inbox", b"x"))["msg_id"] == 0
        await connection.close()
