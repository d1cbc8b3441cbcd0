"""Replies of a gateway go to inboxes, whatever a client asks for."""

import json

import pytest
from serving import refusal
from waiting import until

from mq9.cluster.reply_subjects import ReplySubjects
from mq9.errors import InvalidRequest, MailboxNotFound

from .clusters import call_cluster

pytestmark = pytest.mark.programs

CREATE = "$mq9.AI.MAILBOX.CREATE"


@pytest.mark.parametrize("subject", ["_INBOX.a", "_INBOX.ada.b.c", "mine.a"])
def test_replies_go_to_inboxes(subject):
    assert ReplySubjects(["_INBOX.", "mine."]).allows(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "inbox",
        "_INBOX",
        "_INBOX.",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOXES.a",
        "$JS.API.STREAM.PURGE.MQ9",
        "$O.MQ9_SNAPSHOTS.M.x",
        "$mq9.AI.MAILBOX.CREATE",
        "MQ9.append",
        "MQ9.gateways",
        "_INBOX.MQ9.gateway.a",
    ],
)
def test_and_nowhere_else(subject):
    assert not ReplySubjects().allows(subject)


@pytest.mark.parametrize(
    "prefix", ["$", "$JS.", "$JS.API.", "MQ9.", "MQ9.append.", "_INBOX.MQ9.gateway."]
)
def test_a_prefix_of_what_is_closed_is_refused(prefix):
    with pytest.raises(InvalidRequest, match="covers subjects of NATS or of the cluster itself"):
        ReplySubjects(["_INBOX.", prefix])


@pytest.mark.parametrize("prefix", ["", ".", "M", "_INBOX", "a..", "*.", ">.", "a b."])
def test_what_is_no_prefix_is_refused(prefix):
    with pytest.raises(InvalidRequest, match="write whole tokens and a dot at the end"):
        ReplySubjects([prefix])


def test_a_start_with_such_a_prefix_is_refused(tmp_path):
    options = ["--data", str(tmp_path / "mail.db"), "--reply-prefix", "$JS."]
    code, line = refusal("--cluster", "nats://127.0.0.1:1", *options)
    assert (code, line.startswith("error: reply-prefix: '$JS.' covers")) == (2, True)
    code, line = refusal(*options)
    assert (code, line) == (2, "error: reply-prefix: it is for gateways; give --cluster, too")


async def test_a_request_with_another_reply_subject_changes_nothing(members, caplog):
    """Subjects of NATS and of the cluster are in test_permissions.py, too."""
    one = await members.start("one")
    client, asker = await members.client(), await members.asker()
    replies = ("$JS.API.STREAM.PURGE.MQ9", "MQ9.append", "elsewhere.x")
    heard = [await asker.subscribe(reply) for reply in replies]
    for reply in replies:
        await asker.publish(CREATE, json.dumps({"name": "stray"}).encode(), reply=reply)
    await asker.flush()
    await until(lambda: one.gateway.refused == len(replies))

    await client.mailbox_create(name="third")
    await asker.flush()
    for subscription in heard:
        while subscription.pending_msgs:
            told = await subscription.next_msg()
            assert not told.data.startswith(b"{")  # a record, which is no reply
    with pytest.raises(MailboxNotFound):
        await client.mailbox_status("stray")
    assert caplog.text.count("is no inbox; --reply-prefix names others") == 1


async def test_operators_are_answered_at_inboxes_only(members):
    """Nor is a digest sent elsewhere, which a record of the log asks for."""
    one = await members.start("one")
    asker = await members.asker()
    heard = await asker.subscribe("elsewhere")
    for subject in ("MQ9.gateways", "MQ9.snapshot"):
        await asker.publish(subject, b"", reply="elsewhere")
    await asker.flush()
    assert (await members.call("verify"))[1]["equal"]
    assert heard.pending_msgs == 0
    assert await one.snapshots.all() == []


async def test_another_prefix_is_taken_where_the_gateway_was_told(members):
    await members.start("one", reply_prefixes=["mine."])
    client = await members.client(f"{members.url}?inbox_prefix=mine.ada")
    await client.mailbox_create(name="inbox")
    assert (await client.mailbox_status("inbox")).stored == 0


async def test_gateways_and_operators_have_inboxes_of_their_own(members):
    url = f"{members.url}?inbox_prefix=_INBOX.ada"
    code, refused = await call_cluster(url, "status")
    assert (code, refused["error"]) == (
        2,
        "cluster: inbox_prefix is for clients; gateways and operators have _INBOX.MQ9.operator",
    )
