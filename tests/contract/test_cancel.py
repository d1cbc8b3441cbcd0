"""CANCEL: a delayed message is taken back by its sender, or by who may take messages there."""

import pytest

from mq9 import InvalidRequest, MailboxNotFound, MessageNotFound

from .reading import bodies


@pytest.fixture
async def later(ada, inbox):
    """Let Ada send something that is visible later; its delayed_id."""
    await ada.send(inbox, "later", delay=10, correlation_id="q", id="once")
    return (await ada.sent()).sent[0].delayed_id


async def test_it_does_not_become_visible(way, ada, client, inbox, later):
    await client.send(inbox, "stays", delay=10)
    await ada.cancel(inbox, later)
    status = await client.mailbox_status(inbox)
    assert (status.stored, status.delayed, status.removed.deleted) == (0, 1, 1)
    assert (await ada.sent()).sent == ()
    await way.clock.advance(10)
    assert bodies(await client.query(inbox)) == ["stays"]
    assert (await client.mailbox_status(inbox)).stored_bytes < 100


async def test_its_id_is_answered_as_before(ada, client, inbox, later):
    await ada.cancel(inbox, later)
    assert await ada.send(inbox, "later", delay=10, id="once") == -1
    assert (await client.mailbox_status(inbox)).delayed == 0


async def test_only_once_and_not_when_it_is_visible(way, ada, client, inbox, later):
    await ada.cancel(inbox, later)
    await ada.send(inbox, "due", delay=1, correlation_id="q")
    [due] = (await ada.sent()).sent
    await way.clock.advance(1)
    for number in (later, due.delayed_id, due.delayed_id + 1):
        with pytest.raises(MessageNotFound, match="message not found"):
            await ada.cancel(inbox, number)
    assert bodies(await client.query(inbox)) == ["due"]


async def test_it_is_of_one_mailbox(ada, client, inbox, later):
    await client.mailbox_create(name="other")
    with pytest.raises(MessageNotFound):
        await ada.cancel("other", later)
    with pytest.raises(MailboxNotFound):
        await ada.cancel("nowhere", later)
    assert (await client.mailbox_status(inbox)).delayed == 1


async def test_an_agent_takes_back_its_own_or_what_is_for_it(ada, bob, client):
    carol = client  # who is no agent
    await bob.mailbox_create(name="bob")
    for number in range(3):
        await ada.send("bob", f"{number}", delay=10, correlation_id=f"{number}")
    by_ada = [one.delayed_id for one in (await ada.sent()).sent]
    await carol.send("bob", "a claim", delay=10, correlation_id="c", sender="ada")
    await ada.cancel("bob", by_ada[0])
    await bob.cancel("bob", by_ada[1])
    with pytest.raises(MessageNotFound):  # it was sent by nobody who is known
        await ada.cancel("bob", by_ada[0] + 1)
    assert (await bob.mailbox_status("bob")).delayed == 2


async def test_who_may_only_send_takes_back_nothing_of_others(way, ada, bob):
    await bob.mailbox_create(name="bob")
    await ada.send("bob", "later", delay=10, correlation_id="q")
    [sent] = (await ada.sent()).sent
    body = {"delayed_id": sent.delayed_id, "sender": "ada"}
    refused = await way.ask("MSG.CANCEL.bob", body, agent="eve")
    assert refused["code"] == "message_not_found"
    assert (await way.ask("MSG.CANCEL.bob", body, agent="ada")) == {"error": "", "cancelled": True}


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", None, 2**53, True])
async def test_bad_input_is_refused_alike(way, client, inbox, number):
    with pytest.raises(InvalidRequest, match="delayed_id"):
        await client.cancel(inbox, number)
    refused = await way.ask(f"MSG.CANCEL.{inbox}", {"delayed_id": number})
    assert (refused["code"], "delayed_id" in refused["error"]) == ("invalid_request", True)
