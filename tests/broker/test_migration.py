"""A file written under an older schema holds what it held, and can do what newer ones can."""

import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import pytest

from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Session
from mq9.client.client import Mq9Client
from mq9.errors import IdConflict, Unavailable
from mq9.models import MailboxType
from mq9.storage import store
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport

NOW_S = 1_800_000_000
MAIL = """
INSERT INTO mailboxes (id, address, life, description, public, ttl_s, changes_ms, next_msg_id,
  next_reply, visible_ms, messages, bytes) VALUES
  (1, 'inbox', 'aa', '', 0, 0, :now + 5000, 2, 1, :now - 1000, 3, 3),
  (2, 'dead', 'bb', '', 0, 0, NULL, 0, 0, 0, 0, 0);
INSERT INTO messages (mailbox, msg_id, priority, visible_ms, sent_ms, key, tags, sender,
  sender_verified, path, size, payload) VALUES
  (1, 0, 2, :now - 1000, :now - 1000, NULL, ',a,b,', 'ada', 1, 'p', 1, x'61'),
  (1, 1, 2, :now - 1000, :now - 1000, 'k', '', NULL, 0, '', 1, x'62');
INSERT INTO delayed (mailbox, due_ms, sent_ms, priority, tags, sender_verified, path, size, payload)
  VALUES (1, :now + 5000, :now - 1000, 2, ',c,', 0, '', 1, x'63');
INSERT INTO groups (id, mailbox, name, start, critical, urgent, normal, first_reply, used_ms)
  VALUES (1, 1, 'g', 0, 0, 0, 1, 0, :now - 1000);
INSERT INTO leases VALUES (1, 0, 1, 2, 'one', :now + 60000, 1, 0);
INSERT INTO replies VALUES (1, 0, 1, 'one', NULL, :now - 1000, 1);
INSERT INTO handed VALUES (1, 0, 0, 0, 1, 0, 0, NULL);
INSERT INTO sent_ids VALUES (1, '', 'i', :body, 0, :now - 1000), (1, 'bob', 'i', :body, 1, :now);
"""

# A reply with both messages, the same to the same consumer again, and one of them to another.
FETCHED_AGAIN = """
UPDATE mailboxes SET next_reply=3 WHERE id=1;
DELETE FROM leases;
INSERT INTO leases VALUES
  (1, 0, 1, 2, 'one', :now + 60000, 2, 1), (1, 1, 1, 2, 'two', :now + 60000, 3, 2);
INSERT INTO replies VALUES
  (1, 1, 1, 'one', 'again', :now - 900, 1), (1, 2, 1, 'two', NULL, :now - 800, 1);
UPDATE groups SET normal=2;
INSERT INTO handed VALUES (1, 0, 1, 1, 1, 0, 1, NULL), (1, 1, 0, 0, 1, 1, 0, NULL),
  (1, 1, 1, 1, 1, 1, 1, NULL), (1, 2, 0, 1, 1, 0, 0, NULL);
"""

# As a mailbox was left by moved copies, which were counted with more than they were stored with.
MISCOUNTED = "UPDATE mailboxes SET messages=5, bytes=70 WHERE id=1;"


def write(path, version, mail):
    """Make a file as it was under schema 1 or 2."""
    schema = Path(__file__).with_name("schema_2.sql").read_text("utf-8")
    connection = sqlite3.connect(path)
    body = blake2b(b"a", digest_size=16).hexdigest()
    script = schema + mail.replace(":now", str(NOW_S * 1000)).replace(":body", f"x'{body}'")
    connection.executescript(script)
    if version == 1:
        connection.execute("DROP TABLE agents_vectors")
    connection.execute(f"PRAGMA application_id={store.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()


@pytest.fixture
async def opened(request, tmp_path):
    """A client of a broker on a file of schema 2, with a message leased and one delayed."""
    path = tmp_path / "mq9.db"
    write(path, 2, MAIL + getattr(request, "param", ""))
    broker = EmbeddedBroker.on_file(path, ManualClock(NOW_S))

    async def release():
        """The broker is closed below."""

    transport = DirectTransport(broker, Session("session"), release)
    async with Mq9Client(transport=transport) as client:
        yield client
    await broker.close()


@pytest.mark.usefixtures("model")
async def test_a_file_from_before_there_were_vectors_gets_room_for_them(tmp_path):
    path = tmp_path / "mq9.db"
    write(path, 1, "")
    async with Mq9Client(f"sqlite:///{path.as_posix()}") as client:
        await client.agent_register({"name": "cook", "payload": "soup"})
        [agent] = await client.agent_discover(semantic="stew", min_score=0)
        assert agent.match.mode == "semantic"


async def test_what_new_files_find_messages_by_is_in_older_ones_too(opened, tmp_path):
    def indices(path):
        with closing(store.open_file(path)) as connection:
            shown = connection.execute("SELECT name FROM sqlite_master WHERE type='index'")
            return {name for (name,) in shown}

    assert indices(tmp_path / "mq9.db") == indices(tmp_path / "new.db")


async def test_mail_from_before_is_read_leased_and_moved(opened):
    await opened.move("inbox", "g", 0, to="dead", consumer="one", reason="old")
    [moved] = await opened.query("dead")
    assert (moved.text, moved.tags, moved.path, moved.headers) == ("a", ("a", "b"), ("p",), {})
    assert (moved.sender, moved.sender_verified) == ("ada", True)
    assert (moved.moved.mailbox, moved.moved.reason) == ("inbox", "old")
    assert [one.text for one in await opened.fetch("inbox", group_name="g")] == ["b"]


@pytest.mark.parametrize("opened", [FETCHED_AGAIN], indirect=True)
async def test_what_was_fetched_again_before_is_acked_and_held_as_it_was(opened):
    [held] = await opened.fetch("inbox", group_name="g", consumer="one", max_wait_ms=0)
    assert (held.msg_id, held.delivery_count, held.batch) == (0, 3, "aa-3")
    assert await opened.ack("inbox", "g", 1, consumer="one", batch="aa-0") == [0]
    assert await opened.ack("inbox", "g", 1, consumer="one", batch="aa-1") == []
    assert await opened.ack("inbox", "g", 1, consumer="two", batch="aa-2") == [1]
    for msg_id in (0, 1):
        await opened.delete("inbox", msg_id)
        [standing] = (await opened.mailbox_status("inbox", msg_id=msg_id)).message.groups
        assert (standing.state, standing.deliveries) == ("acked", 3)


@pytest.mark.parametrize("opened", [FETCHED_AGAIN], indirect=True)
async def test_without_a_token_the_latest_reply_from_before_is_meant(opened):
    assert await opened.ack("inbox", "g", 1, consumer="one", individual=True) == []
    assert await opened.ack("inbox", "g", 0, consumer="one") == [0]
    assert await opened.ack("inbox", "g", 0, consumer="one", batch="aa-1") == [0]
    await opened.clock.advance(60)
    assert await opened.ack("inbox", "g", 1, any_consumer=True) == [1]


async def test_ids_from_before_are_remembered_with_their_senders(opened):
    assert await opened.send("inbox", "a", id="i") == 0
    assert await opened.send("inbox", "a", id="i", sender="bob") == 1
    assert await opened.send("inbox", "a", id="i", sender="eve") == 2
    with pytest.raises(IdConflict):
        await opened.send("inbox", "b", id="i")


async def test_ids_from_before_are_forgotten_after_a_week(opened):
    await opened.clock.advance(7 * 86_400 - 0.5)
    again = await opened.send("inbox", "b", id="i")
    assert await opened.send("inbox", "a", id="i", sender="bob") == 1
    await opened.clock.advance(0.499)
    assert await opened.send("inbox", "a", id="i", sender="bob") == 1
    await opened.clock.advance(0.001)
    assert await opened.send("inbox", "b", id="i") == again > 1
    assert await opened.send("inbox", "a", id="i", sender="bob") == again + 1


async def test_what_was_delayed_before_falls_due(opened):
    await opened.clock.advance(5)
    later = (await opened.query("inbox"))[-1]
    assert (later.msg_id, later.text, later.tags, later.moved) == (2, "c", ("c",), None)


@pytest.mark.parametrize("opened", [MISCOUNTED], indirect=True)
async def test_what_a_mailbox_holds_is_counted_anew(opened):
    status = await opened.mailbox_status("inbox")
    assert (status.stored, status.delayed, status.stored_bytes) == (2, 1, 3)
    await opened.clock.advance(5)
    for msg_id in range(3):
        await opened.delete("inbox", msg_id)
    status = await opened.mailbox_status("inbox")
    assert (status.stored, status.delayed, status.stored_bytes) == (0, 0, 0)
    status = await opened.mailbox_status("dead")
    assert (status.stored, status.delayed, status.stored_bytes) == (0, 0, 0)


async def test_mailboxes_from_before_there_were_types_keep_all_messages(opened):
    assert (await opened.mailbox_status("inbox")).type is MailboxType.STANDARD
    await opened.send("inbox", "c")
    assert [one.text for one in await opened.query("inbox")] == ["a", "b", "c"]
    await opened.mailbox_create(name="state", type="latest")
    for text in "ab":
        await opened.send("state", text)
    assert [one.text for one in await opened.query("state")] == ["b"]


async def test_a_file_from_before_there_were_tokens_notices_that_it_is_overwritten(tmp_path):
    path = tmp_path / "mq9.db"
    write(path, 2, MAIL)
    async with Mq9Client(f"sqlite:///{path.as_posix()}", reconnect_attempts=0) as client:
        await client.send("inbox", "before")
        path.write_bytes(b"")
        with pytest.raises(Unavailable, match="was overwritten"):
            await client.send("inbox", "after")


async def test_an_agent_registered_before_its_mailbox_gets_one(tmp_path):
    path = tmp_path / "mq9.db"
    registered = (
        "INSERT INTO agents (id, key, mailbox, life, registered, owner, ttl_s, seen_ms)"
        """ VALUES (1, 'cook', 'kitchen', NULL, CAST('{"name": "cook"}' AS BLOB), NULL, 0, :now);"""
        "INSERT INTO agents_text (rowid, name) VALUES (1, 'cook');"
    )
    write(path, 2, registered)
    async with Mq9Client(f"sqlite:///{path.as_posix()}") as client:
        [agent] = await client.agent_discover()
        assert (agent.match.name, agent.match.backlog) == ("cook", 0)
        assert await client.send("kitchen", "x") == 0
        await client.mailbox_drop("kitchen")
        assert await client.agent_discover() == []


async def test_agents_from_before_are_indexed_and_keep_their_vectors(tmp_path):
    path = tmp_path / "mq9.db"
    registered = (
        "INSERT INTO mailboxes (id, address, life, description, public, ttl_s)"
        " VALUES (1, 'kitchen', 'aa', '', 0, 0);"
        "INSERT INTO agents (id, key, mailbox, life, registered, owner, ttl_s, seen_ms)"
        " VALUES (7, 'cook', 'kitchen', 'aa',"
        """ CAST('{"name": "cook", "description": "soup"}' AS BLOB), NULL, 0, :now);"""
        "INSERT INTO agents_text (rowid, name) VALUES (3, 'removed'), (7, 'by other rules');"
        "INSERT INTO agents_vectors VALUES (3, 'model', x'00'), (7, 'model', x'01');"
    )
    write(path, 2, registered)
    async with Mq9Client(f"sqlite:///{path.as_posix()}") as client:
        [agent] = await client.agent_discover(text="soup")
        assert (agent.match.name, agent.match.mailbox) == ("cook", "kitchen")
        assert await client.agent_discover(text="rules") == []
        assert vectors(path) == [(7, b"\x01")]
        await client.agent_register({"name": "cook", "description": "stew"})
        assert await client.agent_discover(text="soup") == []
        [agent] = await client.agent_discover(text="stew")
    assert vectors(path) == []


def vectors(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT agent, vector FROM agents_vectors").fetchall()
