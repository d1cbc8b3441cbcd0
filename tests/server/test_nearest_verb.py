"""A subject that is no request is answered with the one that was probably meant."""

import orjson
import pytest

from mq9 import InvalidRequest
from mq9.protocol import subjects


@pytest.fixture
async def ask(hosted):
    """Make a request whose subject is wrong; what the reply says."""
    raw = await hosted.raw()

    async def ask(subject):
        reply = orjson.loads(await raw.ask(f"$mq9.AI.{subject}"))
        return reply.get("code"), reply["error"]

    return ask


MEANT = [
    ("MAILBOX.SEND.x", "MSG.SEND.{mail_address}"),
    ("MSG.LIST", "MSG.QUERY.{mail_address}"),
    ("MSG.READ.x", "MSG.FETCH.{mail_address}"),
    ("MSG.CREATE", "MAILBOX.CREATE"),
    ("MSG.REMOVE.x.7", "MSG.DELETE.{mail_address}.{msg_id}"),
    ("AGENT.LIST", "AGENT.DISCOVER"),
    ("MAILBOX.INFO.x", "MAILBOX.STATUS.{mail_address}"),
    ("MAILBOX.DELTE.x.1", "MAILBOX.DELETE.{mail_address}.{msg_id}"),
    ("INBX.x.normal", "INBOX.{mail_address}.{priority}"),
    ("mailbox.create", "MAILBOX.CREATE"),
    ("MAILBOX", "MAILBOX.MSG.{mail_address}.{priority}"),
    ("BROADCAST", "BROADCAST.{domain}.{event}"),
    ("broadcast.weather.storm", "BROADCAST.{domain}.{event}"),
]


@pytest.mark.parametrize(("subject", "meant"), MEANT)
async def test_what_is_no_verb_names_the_nearest_one(ask, subject, meant):
    sentence = f"subject: '$mq9.AI.{subject}' is not a verb of mq9; the nearest is {meant}"
    assert await ask(subject) == ("invalid_request", sentence)


@pytest.mark.parametrize("subject", ["", "x", "weather.tomorrow.in.the.north"])
async def test_what_is_near_none_is_told_how_verbs_begin(ask, subject):
    code, sentence = await ask(subject)
    assert code == "invalid_request"
    assert sentence.endswith(
        "; verbs begin with AGENT, CONVERSATION, INBOX, MAILBOX, MSG, OWN, PUBLIC, STUCK"
    )


@pytest.mark.parametrize(
    ("subject", "form"),
    [
        ("MSG.SEND", "MSG.SEND.{mail_address}"),
        ("MSG.FETCH.", "MSG.FETCH.{mail_address}"),
        ("MSG.DELETE.7", "MSG.DELETE.{mail_address}.{msg_id}"),
        ("MAILBOX.LIST", "MAILBOX.LIST.{mail_address}"),
        ("MAILBOX.MSG", "MAILBOX.MSG.{mail_address}.{priority}"),
        ("MAILBOX.MSG.urgent", "MAILBOX.MSG.{mail_address}.{priority}"),
        ("INBOX", "INBOX.{mail_address}.{priority}"),
        ("INBOX.normal", "INBOX.{mail_address}.{priority}"),
    ],
)
async def test_a_subject_without_a_mailbox_is_told_where_it_stands(ask, subject, form):
    told = f"'$mq9.AI.{subject}' names no mailbox; the subject is $mq9.AI.{form}"
    assert await ask(subject) == ("invalid_address", f"invalid mail_address: {told}")


async def test_a_subscription_without_a_mailbox_is_told_so_too(hosted):
    raw = await hosted.raw()
    raw.send(b"SUB $mq9.AI.INBOX.urgent 1\r\n")
    kind, told = await raw.frame()
    assert kind == "-ERR"
    assert "names no mailbox; the subject is $mq9.AI.INBOX.{mail_address}.{priority}" in told


async def test_a_mailbox_that_is_named_like_a_priority_is_reached_with_one_after_it(hosted, ask):
    async with await hosted.client() as client:
        await client.mailbox_create(name="urgent")
        assert (await ask("INBOX.urgent.normal"))[1] == ""
        assert [message.priority for message in await client.query("urgent")] == ["normal"]


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("MAILBOX.MSG.x", "the nearest is MSG.SEND.{mail_address}"),
        ("MAILBOX.LIST.x", "the nearest is MSG.QUERY.{mail_address}"),
        ("MAILBOX.DELETE.x.7", "the nearest is MSG.DELETE.{mail_address}.{msg_id}"),
        ("MAILBOX.QUERY.x", "the nearest is MSG.QUERY.{mail_address}"),
        (
            "INBOX.x.urgent",
            "verbs begin with AGENT, CONVERSATION, MAILBOX, MSG, OWN, PUBLIC, STUCK",
        ),
        ("BROADCAST.a.b", "verbs begin with AGENT, CONVERSATION, MAILBOX, MSG, OWN, PUBLIC, STUCK"),
    ],
)
def test_where_no_older_generation_is_spoken_none_of_its_verbs_is_named(subject, meant):
    with pytest.raises(InvalidRequest) as raised:
        subjects.decode(f"$mq9.AI.{subject}")
    assert str(raised.value).endswith(f"; {meant}")
