"""NOTICE: a session of a host is told of each message once, and woken no more than it may be."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound, Unread
from mq9.models import NoticeReceipt, NoticeSender, Occasion

from .reading import START, refused, send_all

ASKED = {"host": "claude-code", "session": "one"}
EVERYBODY = {"may_wake": "everyone", "cooldown_s": 0}


@pytest.fixture
async def box(ada):
    """The mailbox of Ada, in which a message of nobody waits."""
    await ada.mailbox_create(name="ada")
    return "ada"


@pytest.fixture
def noticing(ada, box):
    """Ask what to tell a session of Ada's."""

    async def notice(occasion, **options):
        return await ada.notice(box, **{**ASKED, "occasion": occasion, **options})

    return notice


async def receipts(client, box, msg_id=0):
    return (await client.mailbox_status(box, msg_id=msg_id)).message.notices


class TestOnce:
    """A session is told of each message once."""

    async def test_at_the_next_chance_of_all_that_came(self, noticing, client, box):
        await client.send(box, "first", priority="urgent")
        await send_all(client, box, *"123456789")

        notice = await noticing("tool")

        assert (notice.told, notice.new) == (True, Unread(urgent=1, normal=9))
        assert (notice.from_id, notice.to_id, notice.unread) == (0, 9, notice.new)
        again = await noticing("tool")
        assert (again.told, again.new, again.unread) == (False, Unread(), notice.new)
        assert (again.from_id, again.to_id, again.senders, again.others) == (None, None, (), 0)

    async def test_what_comes_later_is_told_by_itself(self, noticing, client, box):
        await send_all(client, box, "1", "2")
        await noticing("start")
        await client.send(box, "3", priority="critical")
        notice = await noticing("stop", **EVERYBODY)
        assert (notice.told, notice.new, notice.from_id) == (True, Unread(critical=1), 2)
        assert notice.unread == Unread(critical=1, normal=2)

    async def test_a_new_session_is_told_of_all_that_is_unread(self, noticing, client, box):
        await send_all(client, box, "1", "2")
        await noticing("start")
        for other in ({"session": "two"}, {"host": "codex"}):
            assert (await noticing("start", **other)).new.total == 2
            assert not (await noticing("prompt", **other)).told

    async def test_what_is_acked_or_leased_does_not_wait(self, way, ada, noticing, client, box):
        await send_all(client, box, "1", "2", "3")
        got = await ada.fetch(box, group_name=box, num_msgs=2, lease_ms=10_000)
        await ada.ack(box, box, 0, individual=True)
        notice = await noticing("start")
        assert (notice.new.total, notice.unread.total, notice.from_id) == (1, 1, 2)

        await way.clock.advance(10)  # the lease of a message that the session was not told of
        after = await noticing("tool")
        assert (len(got), after.told, after.unread.total) == (2, False, 2)

    async def test_a_message_that_another_held_is_told_when_it_is_free(
        self, way, ada, noticing, client, box
    ):
        await send_all(client, box, "1", "2")
        await client.send(box, "3", priority="critical")
        await ada.fetch(box, group_name=box, num_msgs=1, lease_ms=10_000)  # the critical one
        assert (await noticing("tool")).new == Unread(normal=2)
        await way.clock.advance(10)
        assert (await noticing("tool")).new == Unread(critical=1)

    async def test_another_group_takes_nothing_away(self, ada, noticing, client, box):
        await client.send(box, "1")
        await ada.ack(box, "others", (await ada.fetch(box, group_name="others"))[0].msg_id)
        assert (await noticing("tool")).new.total == 1

    async def test_it_leases_and_acks_nothing(self, ada, noticing, client, box):
        await client.send(box, "1")
        await noticing("start")
        [message] = await ada.fetch(box, group_name=box)
        assert message.delivery_count == 1

    async def test_what_falls_due_is_told_and_what_expires_is_not(self, way, noticing, client, box):
        await client.send(box, "later", delay=5)
        await client.send(box, "brief", ttl=5)
        assert (await noticing("tool", session="two")).new.total == 1
        await way.clock.advance(5)
        notice = await noticing("tool")
        assert (notice.new.total, notice.from_id) == (1, 1)


class TestNothingNew:
    """Then nothing is written."""

    async def test_an_empty_mailbox(self, way, noticing, box):
        before = way.state()
        for occasion in Occasion:
            assert not (await noticing(occasion)).told
        assert way.state() == before

    async def test_what_was_told(self, way, noticing, client, box):
        await client.send(box, "1")
        await noticing("start")
        before = way.state()
        for occasion in Occasion:
            assert not (await noticing(occasion)).told
        assert way.state() == before

    async def test_what_is_held_as_before(self, way, noticing, client, box):
        await client.send(box, "1")
        await noticing("idle", may_wake=[])
        before = way.state()
        for occasion in ("idle", "stop", "idle"):
            assert (await noticing(occasion, may_wake=[])).held == "sender"
        assert way.state() == before


class TestLimits:
    """Of turns that begin by a notice: at the end of a turn, or of a session that rests."""

    async def test_so_many_in_a_row_until_a_person_types(self, noticing, client, box):
        told = []
        for number in range(6):
            await client.send(box, f"{number}")
            notice = await noticing("stop", **EVERYBODY, max_in_a_row=4)
            told.append((notice.told, notice.held))
        assert told == [(True, None)] * 4 + [(False, "in a row")] * 2
        assert notice.held_until is None
        assert (notice.new.total, notice.from_id, notice.to_id) == (2, 4, 5)

        for occasion in ("tool", "start"):  # are never held, and are no prompts
            await client.send(box, occasion)
            assert (await noticing(occasion)).told
        await client.send(box, "6")
        assert (await noticing("stop", **EVERYBODY)).held == "in a row"
        prompted = await noticing("prompt")
        assert (prompted.told, prompted.new.total) == (True, 1)
        await client.send(box, "7")
        assert (await noticing("stop", **EVERYBODY)).told

    async def test_a_prompt_ends_the_row_although_there_is_nothing_new(self, noticing, client, box):
        await client.send(box, "1")
        await noticing("idle", **EVERYBODY)
        assert not (await noticing("prompt")).told
        await client.send(box, "2")
        assert (await noticing("idle", **EVERYBODY, max_in_a_row=1)).told

    async def test_each_session_has_a_row_of_its_own(self, noticing, client, box):
        await client.send(box, "1")
        for session in ("one", "two"):
            assert (await noticing("idle", **EVERYBODY, max_in_a_row=1, session=session)).told

    async def test_so_many_in_an_hour_for_all_sessions(self, way, noticing, client, box, ada, bob):
        limits = {**EVERYBODY, "max_per_hour": 2}
        for session in ("one", "two"):
            await client.send(box, "x")
            assert (await noticing("stop", **limits, session=session)).told
            await way.clock.advance(10)
        await client.send(box, "x")
        held = await noticing("idle", **limits, session="three")
        assert (held.told, held.held, held.held_until) == (False, "per hour", START + 3_600)
        assert (await ada.mailbox_status(box)).turns == 2
        assert (await noticing("tool", **limits, session="two")).told  # which is not counted
        await way.clock.advance(3_579.5)
        assert not (await noticing("idle", **limits, session="three")).told
        await ada.mailbox_grant(box, viewers=["bob"])
        assert (await bob.mailbox_status(box)).turns is None  # who may look, and not take
        await way.clock.advance(0.5)
        assert (await ada.mailbox_status(box)).turns == 1
        assert (await noticing("idle", **limits, session="three")).told

    async def test_a_session_rests_for_a_while_before_any_wakes(self, way, noticing, client, box):
        limits = {"may_wake": "everyone", "cooldown_s": 30}
        await client.send(box, "1")
        assert (await noticing("idle", **limits)).told
        await client.send(box, "2")
        for session in ("one", "two"):
            held = await noticing("idle", **limits, session=session)
            assert (held.held, held.held_until) == ("cooldown", START + 30)
        assert (await noticing("stop", **limits)).told  # the turn goes on, which it has not left
        await way.clock.advance(30)
        assert (await noticing("idle", **limits, session="two")).told

    @pytest.mark.parametrize("limit", ["max_in_a_row", "max_per_hour"])
    async def test_with_none_there_are_no_such_turns(self, noticing, client, box, limit):
        await client.send(box, "1")
        for occasion in ("stop", "idle"):
            held = await noticing(occasion, **EVERYBODY, **{limit: 0})
            assert (held.told, held.held_until) == (False, None)
        assert (await noticing("tool", **{limit: 0})).told

    async def test_what_is_held_is_told_at_the_next_chance(self, noticing, client, box):
        await client.send(box, "1")
        held = await noticing("idle")
        assert (held.told, held.held, held.new.total) == (False, "sender", 1)
        assert (await noticing("tool")).new.total == 1


class TestWhoMayWake:
    """By default who was written to; or everybody, or those that are named."""

    async def test_by_default_who_the_owner_has_written_to(self, noticing, ada, bob, box):
        await bob.mailbox_create(name="bob")
        await bob.send(box, "hello")
        assert (await noticing("idle")).held == "sender"
        await ada.send("bob", "hello yourself")
        assert (await noticing("idle")).told

    async def test_what_somebody_claims_does_not_count(self, noticing, ada, bob, client, box):
        await bob.mailbox_create(name="bob")
        await client.send("bob", "a claim", sender="ada", reply_to="ada")
        await bob.send(box, "hello")
        assert (await noticing("idle")).held == "sender"
        await ada.send("bob", "hello")
        await client.mailbox_create(name="nobody")
        await client.send(box, "as bob", sender="bob")
        assert (await noticing("idle", session="two")).told  # since bob wrote, too
        await noticing("tool")
        await client.send(box, "as bob", sender="bob")
        for wakers in ("known", ["bob"]):
            assert (await noticing("idle", may_wake=wakers)).held == "sender"

    async def test_the_mailbox_has_to_be_the_senders(self, way, noticing, ada, bob, client, box):
        await client.mailbox_create(name="team")
        await ada.send("team", "to all")
        await ada.mailbox_create(name="notes")
        await ada.send("notes", "to myself")
        await ada.mailbox_grant("notes", viewers=["bob"])
        await bob.agent_register({"name": "bob", "mailbox": "notes"})
        await bob.send(box, "hello")
        assert (await noticing("idle")).held == "sender"

    async def test_a_copy_that_was_moved_there_is_none_that_was_sent(
        self, noticing, ada, bob, client, box
    ):
        await client.mailbox_create(name="team")
        await ada.send("team", "to all")
        await bob.mailbox_create(name="bob")
        [message] = await bob.fetch("team", group_name="g")
        await message.move("bob")
        await bob.send(box, "hello")
        assert (await noticing("idle")).held == "sender"

    async def test_who_is_named(self, noticing, bob, box):
        await bob.send(box, "hello")
        assert (await noticing("idle", may_wake=["eve"])).held == "sender"
        assert (await noticing("idle", may_wake=["eve", "bob"])).told

    async def test_one_of_several_senders_is_enough(self, noticing, client, bob, box):
        await send_all(client, box, *"12345")
        await bob.send(box, "hello")
        await send_all(client, box, *"12345")
        assert (await noticing("idle", may_wake=["bob"])).told

    async def test_where_nobody_authenticates_claims_are_all_there_is(self, way, client):
        for name in ("pat", "sam"):
            await client.mailbox_create(name=name)
        await client.agent_register({"name": "Patricia", "mailbox": "pat"})
        asked = {"host": "codex", "session": "s", "occasion": "idle", "cooldown_s": 0}
        await client.send("pat", "hello", sender="Sam")
        assert (await client.notice("pat", **asked)).held == "sender"

        sent = await client.send("sam", "hello", sender="Patricia")
        notice = await client.notice("pat", **asked)
        assert (notice.told, notice.senders, notice.others) == (True, (), 1)

        await client.delete("sam", sent)
        await client.send("pat", "hello", sender="Sam")
        assert (await client.notice("pat", **asked)).held == "sender"
        await client.send("sam", "hello", reply_to="pat")
        assert (await client.notice("pat", **asked)).told


class TestSenders:
    """Only verified senders that the receiver knows are named."""

    async def test_who_has_registered_or_was_written_to(self, way, noticing, ada, bob, client, box):
        await bob.agent_register({"name": "bob"})
        eve, dan = await way.client(agent="eve"), await way.client(agent="dan")
        await dan.mailbox_create(name="dan")
        await ada.send("dan", "hello")
        await send_all(bob, box, "1", "2")
        await eve.send(box, "3")
        await dan.send(box, "4")
        await send_all(client, box, "5", "6", sender="bob")
        await send_all(client, box, "7", "8")

        notice = await noticing("tool")

        assert notice.senders == (NoticeSender("bob", 2), NoticeSender("dan", 1))
        assert notice.others == 3  # Eve, who says that it is Bob, and who says nothing

    async def test_a_name_that_another_has_registered_is_not_known(self, noticing, ada, bob, box):
        await ada.agent_register({"name": "bob", "mailbox": "ada"})
        await bob.send(box, "1")
        assert (await noticing("tool")).senders == ()

    async def test_five_are_named(self, way, noticing, box):
        for number in range(7):
            agent = await way.client(agent=f"a{number}")
            await agent.agent_register({"name": f"a{number}"})
            await agent.send(box, "x")
        notice = await noticing("tool")
        assert [one.name for one in notice.senders] == ["a0", "a1", "a2", "a3", "a4"]
        assert notice.others == 2


class TestReceipts:
    """STATUS says of a message which sessions were told of it, or were not."""

    async def test_of_what_was_told_and_held(self, way, noticing, ada, client, box):
        await client.send(box, "1")
        await noticing("idle", **EVERYBODY, max_in_a_row=0)
        await way.clock.advance(2.5)
        await noticing("tool")
        await client.send(box, "2")

        held = NoticeReceipt(
            **ASKED, occasion=Occasion.IDLE, at=START, outcome="held", held="in a row", limit=0
        )
        told = NoticeReceipt(**ASKED, occasion=Occasion.TOOL, at=START + 2.5, outcome="told")
        assert await receipts(ada, box) == (held, told)
        assert await receipts(ada, box, 1) == ()
        await ada.delete(box, 0)
        assert await receipts(ada, box) == (held, told)

    async def test_two_hundred_are_kept_and_those_that_limits_count(
        self, way, noticing, ada, client, box
    ):
        await client.send(box, "x")
        assert (await noticing("idle", **EVERYBODY)).told
        for number in range(201):
            assert (await noticing("start", session=f"{number}")).told
        assert len(way.state()["notices"]) == 200
        assert (await noticing("idle", **EVERYBODY, max_per_hour=1, session="x")).held == "per hour"
        await way.clock.advance(3_600)
        await noticing("start", session="last")
        kept = way.state()["notices"]
        assert (len(kept), sum("'idle'" in one for one in kept)) == (
            200,
            1,
        )  # the one that was held
        assert len(await receipts(ada, box)) == 100

    async def test_the_latest_sessions_are_remembered(self, way, noticing, client, box):
        await client.send(box, "x")
        for number in range(51):
            await noticing("start", session=f"{number}")
            await way.clock.advance(1)
        assert len(way.state()["notice_sessions"]) == 50
        assert not (await noticing("start", session="1")).told
        assert (await noticing("start", session="0")).told

    async def test_they_go_with_the_mailbox(self, way, noticing, ada, client, box):
        await client.send(box, "x")
        await noticing("start")
        await ada.mailbox_drop(box)
        assert (way.state()["notices"], way.state()["notice_sessions"]) == ([], [])
        await ada.mailbox_create(name=box)
        await client.send(box, "x")
        assert (await noticing("start")).told


async def test_only_who_may_take_is_told(ada, bob, box):
    asked = {**ASKED, "occasion": "start"}
    await refused(bob.notice(box, **asked), error=Forbidden)
    await ada.mailbox_grant(box, viewers=["bob"])
    await refused(bob.notice(box, **asked), error=Forbidden)
    await ada.mailbox_grant(box, ["bob"])
    assert not (await bob.notice(box, **asked)).told
    await refused(bob.notice("nowhere", **asked), error=MailboxNotFound)


async def test_the_reply_has_what_applies(way, client, inbox):
    body = {**ASKED, "occasion": "stop"}
    nothing = {"critical": 0, "urgent": 0, "normal": 0}
    empty = {"error": "", "told": False, "new": nothing, "waiting": nothing}
    assert await way.ask(f"MSG.NOTICE.{inbox}", body) == {**empty, "senders": [], "others": 0}
    await client.send(inbox, "x")
    unread = ("mq9-unread", f"{inbox}/other")
    reply = await way.ask(f"MSG.NOTICE.{inbox}", body, unread)
    assert reply == {
        "error": "",
        "told": False,
        "new": {**nothing, "normal": 1},
        "waiting": {**nothing, "normal": 1},
        "senders": [],
        "others": 1,
        "from_id": 0,
        "to_id": 0,
        "held": "sender",
        "unread": {**nothing, "normal": 1},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("host", one) for one in (None, "", "x" * 65, " h", 7)),
        *(("session", one) for one in (None, "", "x" * 129, "a\nb", 7)),
        *(("occasion", one) for one in (None, "", "sometimes", 1)),
        *(("may_wake", one) for one in ("nobody", 7, [" ada"], ["a"] * 65)),
        *(("max_in_a_row", one) for one in (-1, 101, "3", True)),
        *(("max_per_hour", one) for one in (-1, 101, 1.5)),
        *(("cooldown_s", one) for one in (-1, 3_601, "30")),
    ],
)
async def test_what_makes_no_sense_is_refused(way, client, inbox, field, value):
    body = {**ASKED, "occasion": "start", field: value}
    refused = await way.ask(f"MSG.NOTICE.{inbox}", body)
    assert (refused["code"], refused["error"].partition(":")[0]) == ("invalid_request", field)
    with pytest.raises(InvalidRequest, match=field):
        await client.notice(inbox, **body)
