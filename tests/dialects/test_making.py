"""Mailboxes as the older generations make them, and the tokens of the first."""

import orjson
import pytest

from mq9 import MailboxExists
from tests.contract.parsing import way_name  # noqa: F401  # a fixture

from .generations import FIRST, GENERATIONS, SECOND, list_all, make, unread, write


async def test_a_name_that_is_generated_has_its_prefix(way):
    reply = await way.ask("MAILBOX.CREATE", {"ttl": 3600, "prefix": "edge"})

    assert reply["mail_address"].startswith("edge")
    for word in ("critical", "urgent"):
        sent = await way.ask(f"MAILBOX.MSG.{reply['mail_address']}.{word}", b"x")
        assert sent["error"] == ""


async def test_an_inbox_is_generated_and_each_is_another(way):
    one, other = [await way.ask("MAILBOX.CREATE", {"type": "standard"}) for _ in range(2)]

    assert one.keys() == {"error", "mail_id", "token", "inbox"}
    assert one["mail_id"] != other["mail_id"]
    assert one["token"] != other["token"]
    sent = await way.handle(f"{one['inbox']}.normal", b"x", ())
    assert orjson.loads(sent) == {"error": "", "msg_id": 0}


async def test_a_public_name_that_is_made_again_restarts_its_ttl_and_keeps_its_mail(way):
    box = await make(way, SECOND, ttl=60, desc="of the first")
    await write(way, SECOND, "box", b"kept")
    for _ in range(3):
        await way.clock.advance(59)
        await make(way, SECOND, ttl=60)
    await way.clock.advance(59)

    assert [one["payload"] for one in await list_all(way, box)] == ["kept"]
    listed = await way.ask("PUBLIC.LIST")
    assert listed["mailboxes"] == [{"mail_address": "box", "desc": "of the first"}]
    await way.clock.advance(1)
    assert (await way.ask("MAILBOX.LIST.box"))["code"] == "mailbox_not_found"


async def test_a_client_of_the_current_generation_is_told_that_it_exists(way, client):
    await make(way, SECOND)

    with pytest.raises(MailboxExists):
        await client.mailbox_create(name="box", public=True)
    reply = await way.ask("MAILBOX.CREATE", {"name": "box", "public": True, "renew": False})
    assert reply["code"] == "mailbox_exists"
    reply = await way.ask("MAILBOX.CREATE", {"name": "box"})  # which is not public
    assert reply["code"] == "mailbox_exists"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"public":1,"name":"box"}', b'{"public":true}']
)
async def test_what_is_none_of_theirs_is_the_current_ones(way, body):
    reply = await way.ask("MAILBOX.CREATE", body)

    assert ("mail_address" in reply) != ("code" in reply)
    assert "token" not in reply


async def test_a_query_takes_the_token_that_create_answered_and_no_other(way):
    box = await make(way, FIRST)
    other = await make(way, FIRST, "other")
    await write(way, FIRST, "box", b"secret")

    for token in (other.token, box.token.upper(), box.token[:-1], f"{box.token}-0", "x"):
        reply = await way.ask("MAILBOX.QUERY.box", {"token": token})
        assert (reply["code"], reply.get("messages")) == ("forbidden", None)
    for body in (b"", {}, {"token": ""}, {"token": None}, {"token": 7}, {"token": ["x"]}, b"{"):
        reply = await way.ask("MAILBOX.QUERY.box", body)
        assert reply["code"] == "invalid_request"
    assert [one["payload"] for one in await unread(way, box)] == ["secret"]


@pytest.mark.parametrize("maker", GENERATIONS)
async def test_a_token_does_not_open_the_mailbox_that_takes_the_address(way, maker):
    box = await make(way, FIRST, ttl=60)
    await way.clock.advance(60)
    await make(way, maker)
    await write(way, maker, "box", b"of others")

    reply = await way.ask("MAILBOX.QUERY.box", {"token": box.token})

    assert reply["code"] == "forbidden"


async def test_a_query_changes_nothing_however_often_it_is_asked(way):
    box = await make(way, FIRST)
    for word in ("normal", "urgent"):
        await write(way, FIRST, "box", word.encode(), word)
    before = way.state()

    replies = [await unread(way, box) for _ in range(50)]

    assert replies == [replies[0]] * 50
    assert [one["payload"] for one in replies[0]] == ["urgent", "normal"]
    assert way.state() == before


async def test_nobody_without_the_right_to_read_is_told_a_token(open_way):
    way = open_way(agents=["ada", "bob"])
    created = await way.ask("MAILBOX.CREATE", {"type": "standard"}, agent="ada")
    address, token = created["mail_id"], created["token"]

    for verb, body in (
        (f"MAILBOX.QUERY.{address}", {"token": "x"}),
        (f"MAILBOX.LIST.{address}", b""),
        (f"MAILBOX.DELETE.{address}.0", b""),
        (f"MAILBOX.STATUS.{address}", b""),
        ("MAILBOX.CREATE", {"type": "standard", "name": address}),
        ("MAILBOX.CREATE", {"public": True, "name": address}),
        ("MAILBOX.CREATE", {"renew": True, "name": address}),
        (f"MAILBOX.DROP.{address}", b""),
        (f"MSG.FETCH.{address}", {"group_name": "g", "config": {"max_wait_ms": 0}}),
        (f"MSG.QUERY.{address}", b""),
        (f"MAILBOX.GRANT.{address}", {"readers": ["bob"]}),
    ):
        reply = await way.ask(verb, body, agent="bob")
        assert reply["code"] in {"forbidden", "mailbox_exists"}, verb
        assert token not in str(reply)
    for verb in (f"INBOX.{address}.normal", f"MAILBOX.MSG.{address}", "PUBLIC.LIST"):
        reply = await way.ask(verb, b"", agent="bob")
        assert reply["error"] == ""
        assert token not in str(reply)
    stolen = await way.ask(f"MAILBOX.QUERY.{address}", {"token": token}, agent="bob")
    assert stolen["code"] == "forbidden"  # the token is no way around the creator
    kept = await way.ask(f"MAILBOX.QUERY.{address}", {"token": token}, agent="ada")
    assert kept["unread"] == 2
