"""A new verb costs its request, its row in the table, a function of the engine, and a method."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from mq9 import InvalidRequest, MailboxNotFound
from mq9.client.messages import MessageMethods
from mq9.engine import machine, messages
from mq9.engine.messages import LANES
from mq9.models import Priority
from mq9.protocol import checks, replies, verbs
from mq9.protocol.body import Body, given

from .parsing import way_name  # noqa: F401  # a fixture


@dataclass(frozen=True, kw_only=True)
class Count(Body[int]):
    """MSG.COUNT."""

    is_private: ClassVar[bool] = True

    priority: Priority = given(Priority.NORMAL, checks.member(Priority))


ROW = verbs.Verb(
    "MSG.COUNT",
    Count,
    verbs.Target.MAILBOX,
    lambda count: {"count": count},
    lambda reply: replies.whole(reply, "count"),
    reads=True,
    repeatable=True,
)


def carry_out(connection, call, now):
    mailbox = messages.current(connection, call.address, now)
    (count,) = connection.execute(
        "SELECT count(*) FROM messages WHERE mailbox=? AND priority=?",
        (mailbox.id, LANES[call.request.priority]),
    ).fetchone()
    return count


async def count(self, mail_address, priority="normal"):
    return await self._connection.request(Count(priority=priority), mail_address)


@pytest.fixture(autouse=True)
def new_verb(monkeypatch):
    """All that a new verb is."""
    monkeypatch.setitem(verbs.VERBS, ROW.name, ROW)
    monkeypatch.setitem(verbs.OF_REQUEST, Count, ROW)
    monkeypatch.setitem(machine.QUERIES, Count, carry_out)
    monkeypatch.setattr(MessageMethods, "count", count, raising=False)


async def test_it_is_answered_however_it_is_asked(way, client, inbox):
    for priority in ("normal", "urgent", "normal"):
        await client.send(inbox, "x", priority=priority)
    assert (await client.count(inbox), await client.count(inbox, "urgent")) == (2, 1)
    assert await way.ask(f"MSG.COUNT.{inbox}", {"priority": "critical"}) == {
        "error": "",
        "count": 0,
    }


async def test_its_bad_input_and_its_private_mailboxes_are_refused_alike(way, client, ada, inbox):
    with pytest.raises(InvalidRequest, match="priority"):
        await client.count(inbox, "high")
    refused = await way.ask(f"MSG.COUNT.{inbox}", {"priority": "high"})
    assert (refused["code"], "priority" in refused["error"]) == ("invalid_request", True)
    with pytest.raises(MailboxNotFound):
        await client.count("nowhere")
    await ada.mailbox_create(name="ada.box")
    assert (await way.ask("MSG.COUNT.ada.box", agent="bob"))["code"] == "forbidden"
