"""Errors: a stable code for programs, a sentence for people, and a class of its own."""

import pytest

from mq9 import errors
from mq9.engine.commands import Limits
from mq9.errors import from_reply

CLASSES = {
    "mailbox_exists": errors.MailboxExists,
    "mailbox_not_found": errors.MailboxNotFound,
    "message_not_found": errors.MessageNotFound,
    "invalid_address": errors.InvalidAddress,
    "agent_not_found": errors.AgentNotFound,
    "invalid_request": errors.InvalidRequest,
    "payload_too_large": errors.PayloadTooLarge,
    "mailbox_full": errors.MailboxFull,
    "limit_reached": errors.LimitReached,
    "id_conflict": errors.IdConflict,
    "unauthorized": errors.Unauthorized,
    "forbidden": errors.Forbidden,
    "unavailable": errors.Unavailable,
    "outcome_unknown": errors.OutcomeUnknown,
    "broker_failed": errors.BrokerFailed,
    "too_expensive": errors.TooExpensive,
}


@pytest.fixture
async def tight(open_way):
    """A broker that soon has enough, with a mailbox `a` that is full."""
    way = open_way(Limits(max_mailboxes=2, max_messages=1, max_payload=10, max_agents=1))
    await way.ask("MAILBOX.CREATE", {"name": "a"})
    await way.ask("MAILBOX.CREATE", {"name": "kept"}, agent="ada")
    await way.ask("MSG.SEND.a", b"x", ("mq9-id", "1"))
    return way


async def test_every_refusal_has_its_code_and_says_what_was_refused(tight):
    before = tight.state()
    for code, sentence, verb, body, *headers in (
        ("mailbox_exists", "mailbox a already exists", "MAILBOX.CREATE", {"name": "a"}),
        ("mailbox_not_found", "mailbox not found: b does not exist", "MSG.SEND.b", b""),
        ("message_not_found", "message not found", "MSG.DELETE.a.7", b""),
        ("invalid_address", "invalid mail_address", "MSG.SEND.A_B", b""),
        ("agent_not_found", "agent not found", "AGENT.UNREGISTER", {"name": "n"}),
        ("invalid_request", "payload", "MSG.FETCH.a", b"{"),
        ("invalid_request", "limit", "MSG.QUERY.a", {"limit": 0}),
        ("invalid_request", "priority", "MSG.SEND.a", b"", ("mq9-priority", "low")),
        ("payload_too_large", "11 bytes are more than 10", "MSG.SEND.a", bytes(11)),
        ("mailbox_full", "max_messages: 1 ", "MSG.SEND.a", b""),
        ("limit_reached", "max_mailboxes: 2 ", "MAILBOX.CREATE", b""),
        ("id_conflict", "'1'", "MSG.SEND.a", b"y", ("mq9-id", "1")),
        ("forbidden", "kept", "MSG.FETCH.kept", b""),
    ):
        agent = "bob" if code == "forbidden" else None
        reply = await tight.ask(verb, body, *headers, agent=agent)
        assert reply["code"] == code
        assert sentence in reply["error"]
        assert set(reply) == {"error", "code"}
        assert type(from_reply(reply["error"], reply["code"])) is CLASSES[code]
    assert tight.state() == before


@pytest.mark.parametrize(("code", "kind"), CLASSES.items())
def test_a_code_becomes_its_class_whatever_the_sentence(code, kind):
    error = from_reply("mailbox x already exists", code)

    assert type(error) is kind
    assert error.code == code
    assert str(error) == "mailbox x already exists"
    assert isinstance(error, errors.Mq9Error)


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("mailbox X already exists", errors.MailboxExists),
        ("mailbox not found: X does not exist", errors.MailboxNotFound),
        ("message not found: 7", errors.MessageNotFound),
        ("invalid mail_address: 'X'", errors.InvalidAddress),
        ("agent not found: X", errors.AgentNotFound),
        ("something else went wrong", errors.Mq9Error),
    ],
)
@pytest.mark.parametrize("code", [None, "a code of tomorrow"])
def test_without_a_known_code_the_sentence_decides(sentence, code, kind):
    assert type(from_reply(sentence, code)) is kind


def test_wrong_arguments_are_value_errors_and_late_answers_are_timeouts():
    assert issubclass(errors.InvalidRequest, ValueError)
    assert issubclass(errors.InvalidAddress, errors.InvalidRequest)
    assert issubclass(errors.NoReply, TimeoutError)
    assert issubclass(errors.MailboxFull, errors.LimitReached)
    kinds = (errors.OutcomeUnknown, errors.BrokerFailed, errors.TooExpensive)
    assert all(issubclass(one, errors.Unavailable) for one in kinds)


def test_what_an_older_broker_calls_unavailable_may_be_an_unknown_outcome():
    error = from_reply("the broker failed; the outcome is unknown", "unavailable")

    assert type(error) is errors.OutcomeUnknown


async def test_a_broker_that_cannot_store_is_asked_once_and_stores_nothing(
    way, client, inbox, requests_of
):
    before = way.state()
    way.refuse_mailboxes()
    asked = requests_of(client)

    with pytest.raises(errors.BrokerFailed, match="nothing of this request was stored"):
        await client.mailbox_create(name="new", renew=True)  # which may be repeated

    assert len(asked) == 1
    assert way.state() == before


async def test_a_closed_client_says_so_and_sends_nothing(way, client, inbox):
    await client.close()

    with pytest.raises(errors.NotConnected):
        await client.send(inbox, "x")
    assert way.state()["messages"] == []


async def test_a_reply_that_does_not_come_means_the_outcome_is_unknown(way, client, inbox):
    impatient = await way.client(request_timeout=0.01, reconnect_attempts=0)

    with pytest.raises(errors.OutcomeUnknown, match="unknown"):
        await impatient.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=1)

    await client.send(inbox, "x")
    await way.clock.advance(0)
    fetched = await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
    assert [(message.text, message.delivery_count) for message in fetched] == [("x", 1)]
