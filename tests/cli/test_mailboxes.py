"""create, drop, mailboxes, status, agents."""

import asyncio
import io
import json
import re

import pytest

from mq9.cli.mailboxes import status
from mq9.cli.output import Output
from mq9.cli.program import CommandCall
from mq9.testing import FakeBroker


def test_create_prints_the_address_and_nothing_else(mq9, inbox):
    assert re.fullmatch(r"[a-z2-7]{28}\n", mq9.ok("create").out)
    assert re.fullmatch(r"reply\.[a-z2-7]{28}\n", mq9.ok("create", "--prefix", "reply").out)
    assert mq9.ok("create", "other", "--json").document == {"mail_address": "other"}
    again = mq9("create", inbox)
    assert (again.code, again.err) == (1, "error: mailbox inbox already exists\n")
    assert mq9.ok("create", inbox, "--renew").out == "inbox\n"


def test_public_mailboxes_are_listed(mq9):
    nothing = mq9("mailboxes")
    assert (nothing.code, nothing.out) == (0, "")
    assert mq9("mailboxes", "--json").document == {"mailboxes": []}

    mq9.ok("create", "hidden")
    mq9.ok("create", "open", "--public", "--desc", "for all")
    assert mq9.ok("mailboxes").out == "ADDRESS  DESCRIPTION\nopen     for all\n"
    assert mq9.ok("mailboxes", "--json").document == {
        "mailboxes": [{"mail_address": "open", "desc": "for all"}]
    }


def test_drop_removes_it(mq9, inbox):
    done = mq9("drop", inbox)  # without anybody to ask
    assert done.code == 2
    assert "confirm with --yes" in done.err
    assert mq9.ok("drop", inbox, "--yes").out == "dropped inbox\n"
    gone = mq9("drop", inbox, "--yes", "--json")
    assert (gone.code, gone.document["code"]) == (1, "mailbox_not_found")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130), ("", 130)])
def test_drop_asks_on_a_terminal(mq9, inbox, monkeypatch, answer, code):
    mq9.ok("send", inbox, "x")
    with monkeypatch.context() as patch:
        patch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
        done = mq9("drop", inbox, stdin=answer)
    assert "Drop inbox with 1 message?" in done.err
    assert done.code == code
    assert mq9("status", inbox).code == (1 if code == 0 else 0)


def test_status_of_a_mailbox(timed):
    timed.ok("create", "box", "--ttl", 600, "--desc", "a box", "--public")
    timed.ok("send", "box", "12345")
    timed.ok("send", "box", "later", "--delay", 60)

    shown = timed.ok("status", "box").out
    assert "description  a box\n" in shown
    assert "listed       yes, it is public\n" in shown
    assert re.search(r"expires      20.*\(in 10 min\)\n", shown)
    assert "stored       1 message, 10 bytes\n" in shown
    assert re.search(r"delayed      1, the next due 20.*\(in 60 s\)\n", shown)

    document = timed.ok("status", "box", "--json").document
    assert document.pop("expires_at") == document.pop("next_due") + 540
    assert document == {
        "mail_address": "box",
        "type": "standard",
        "desc": "a box",
        "public": True,
        "ttl": 600,
        "stored": 1,
        "stored_bytes": 10,
        "delayed": 1,
        "removed": {"expired": 0, "replaced": 0, "deleted": 0, "evicted": 0},
        "group": None,
        "own": None,
        "send_policy": "everyone",
        "look_policy": "granted",
        "readers": [],
        "viewers": [],
        "senders": [],
        "enforced": False,
        "rights": ["look", "take", "send", "grant"],
        "turns": 0,
    }


NOT_ENFORCED = (
    "stored, but not enforced: this broker cannot tell who sends or reads. Start it with users:"
    " mq9 serve --users FILE"
)


def test_a_policy_says_that_it_is_not_enforced(mq9, inbox):
    made = mq9.ok("create", "box", "--send-policy", "creator")
    assert (made.out, made.err) == ("box\n", f"warning: {NOT_ENFORCED}\n")
    assert mq9.ok("create", "other", "--send-policy", "granted", "--json").document == {
        "mail_address": "other",
        "send_policy": "granted",
        "look_policy": "granted",
        "enforced": False,
        "warnings": [NOT_ENFORCED],
    }
    shown = mq9.ok("status", "box").out
    assert "may send  its creator only; not enforced: the broker cannot tell who sends\n" in shown
    assert "may send" not in mq9.ok("status", inbox).out
    made = mq9.ok("create", inbox, "--renew", "--send-policy", "creator")
    assert (
        "inbox exists and keeps the send policy everyone. Change it: mq9 grant inbox --send-policy"
        " creator\n"
    ) in made.err


def test_a_mailbox_is_opened_to_lookers(mq9, inbox):
    assert mq9.ok("create", "board", "--look-policy", "everyone").out == "board\n"
    assert "may look  all agents\n" in mq9.ok("status", "board").out
    made = mq9.ok("create", inbox, "--renew", "--look-policy", "everyone")
    assert "inbox exists and keeps the look policy granted. Change it: mq9 grant inbox" in made.err
    assert "may look  all agents\n" in mq9.ok("grant", inbox, "--look-policy", "everyone").out


def test_grant_sets_lists_and_policy(mq9, inbox):
    done = mq9.ok("grant", inbox, "--reader", "Ada", "--reader", "bob", "--viewer", "Clerk")
    assert done.out == (
        "WHAT      STATE\nmailbox   inbox\nreaders   Ada, bob\nviewers   Clerk\n"
        "senders   none\nmay send  everyone\n"
        "may look  its creator, its readers and its viewers\n"
    )
    assert done.err == f"warning: {NOT_ENFORCED}\n"

    changed = mq9.ok("grant", inbox, "--no-readers", "--send-policy", "granted", "--json").document

    assert changed == {
        "mail_address": "inbox",
        "readers": [],
        "viewers": ["Clerk"],
        "senders": [],
        "send_policy": "granted",
        "look_policy": "granted",
        "enforced": False,
        "warnings": [NOT_ENFORCED],
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "nothing is granted; give readers, viewers, senders, send_policy or"),
        (("--reader", "Ada", "--no-readers"), "readers: give agents or --no-readers, not both"),
        (("--sender", ""), "senders: '' has 0 characters"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(mq9, inbox, options, told):
    done = mq9("grant", inbox, *options)
    assert done.code == 2
    assert told in done.err


def test_a_mailbox_that_keeps_the_newest_message_only(timed):
    assert timed.ok("create", "state", "--latest").out == "state\n"
    timed.ok("send", "state", "one")
    timed.ok("send", "state", "two!")

    shown = timed.ok("status", "state").out
    assert "keeps    the newest message only\n" in shown
    assert "stored   1 message, 4 bytes\n" in shown
    assert timed.ok("status", "state", "--json").document["type"] == "latest"
    assert "keeps" not in timed.ok("status", "inbox").out


def test_status_of_a_group(timed):
    for priority in ("critical", "urgent", "normal", "normal"):
        timed.ok("send", "inbox", "x", "--priority", priority)
    unborn = timed.ok("status", "inbox", "--group", "g").out
    assert "g does not exist here yet" in unborn
    assert "would get  4 (1 critical, 1 urgent, 2 normal)" in unborn

    fetch = ["fetch", "inbox", "--group", "g", "--deliver", "earliest", "--num", 1]
    timed.ok(*fetch, "--consumer", "ann")
    timed.ok("ack", "inbox", "g", 0)
    timed.ok(*fetch, "--consumer", "ann")
    timed.ok(*fetch, "--consumer", "bob")

    async def give_back(client):
        await client.nack("inbox", "g", 2, delay_ms=30_000, consumer="bob")

    timed.sdk(give_back)
    shown = timed.ok("status", "inbox", "--group", "g").out
    assert "pending     1 (0 critical, 0 urgent, 1 normal)" in shown
    assert re.search(r"leased      1 to ann until 20.*\(in 60 s\)", shown)
    assert re.search(r"given back  1, available 20.*\(in 30 s\)", shown)
    assert re.search(r"acked +1\n", shown)

    group = timed.ok("status", "inbox", "--group", "g", "--json").document["group"]
    assert group["pending"] == {"critical": 0, "urgent": 0, "normal": 1}
    assert [(one["consumer"], one["count"]) for one in group["leased"]] == [(None, 1), ("ann", 1)]


def test_a_mailbox_that_is_not_there_is_an_error(mq9):
    for command in (["status"], ["send", "x"], ["fetch"], ["query"], ["drop", "--yes"]):
        name, *more = command
        done = mq9(name, "nowhere", *more)
        assert done.code == 1
        assert done.err == (
            'error: mailbox "nowhere" does not exist. Create it: mq9 create nowhere\n'
        )


def test_a_misspelt_mailbox_is_answered_with_the_nearest_one(mq9):
    async def register(client):
        await client.mailbox_create(name="claude.code")
        await client.agent_register({"name": "claude-code", "mailbox": "claude.code"})

    mq9.sdk(register)
    mq9.ok("create", "gazette", "--public")
    for given, meant in (("claud.code", "claude.code"), ("gazete", "gazette")):
        done = mq9("send", given, "x")
        assert done.err == (
            f'error: mailbox "{given}" does not exist. Did you mean {meant}? '
            f"Create it: mq9 create {given}\n"
        )
    done = mq9("send", "claude-code", "x")
    assert (done.code, "with this name is claude.code" in done.err) == (2, True)


def test_a_missing_argument_is_answered_with_an_example(mq9):
    done = mq9("ack", "ada", 1)
    assert (done.code, done.err) == (
        2,
        "error: Missing argument 'MSG-ID'. Example: mq9 ack ada readers 0\n",
    )
    assert mq9("users", "add").err.endswith("Example: mq9 users add users.toml --agent Cursor\n")


def test_agents_are_found_and_listed(mq9):
    nothing = mq9("agents")
    assert (nothing.code, nothing.err) == (0, "no agent is registered\n")

    async def register(client):
        for name, about in (("ann", "translates French"), ("bob", "paints houses")):
            await client.mailbox_create(name=name)
            await client.agent_register({"name": name, "mailbox": name, "description": about})

    mq9.sdk(register)
    lines = mq9.ok("agents").out.splitlines()
    assert lines[0].split() == ["NAME", "MAILBOX", "LAST", "SEEN", "DESCRIPTION"]
    assert [line.split()[0] for line in lines[1:]] == ["ann", "bob"]
    assert lines[1].endswith("translates French")

    found = mq9.ok("agents", "french", "--json").document
    assert found["page"] == 1
    [ann] = found["agents"]
    assert ann["card"] == {"name": "ann", "mailbox": "ann", "description": "translates French"}
    assert (ann["name"], ann["mailbox"], ann["mode"]) == ("ann", "ann", "text")

    nobody = mq9("agents", "cooking")
    assert (nobody.code, nobody.err) == (0, "no registered agent matches\n")

    first = mq9.ok("agents", "--limit", 1)
    assert "--page 2" in first.err
    assert "bob" in mq9.ok("agents", "--limit", 1, "--page", 2).out


async def test_a_mailbox_that_is_watched_is_shown_at_each_change():
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            shown = io.StringIO()
            out = Output(as_json=True, stream=shown, notices=shown)
            watching = asyncio.create_task(
                status(CommandCall(broker.url, 5.0, out), address="inbox", group=None, watch=True)
            )
            await broker.clock.advance(5)
            await client.send("inbox", "x")
            await broker.clock.advance(5)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    assert [json.loads(line)["stored"] for line in shown.getvalue().splitlines()] == [0, 1]
