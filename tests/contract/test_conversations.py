"""CONVERSATION.LIST, READ and LINKS: what goes on, for those who may see it."""

import asyncio

import pytest

from mq9 import InvalidRequest
from mq9.models import Participant, Progress, Role

from .reading import START


@pytest.fixture
def way(open_way):
    return open_way(agents=["ada", "bob", "carol"])


@pytest.fixture
async def operator(way):
    return await way.client()


@pytest.fixture
async def boxes(ada, bob):
    """A mailbox for each agent, called like it."""
    for client, name in ((ada, "ada"), (bob, "bob")):
        await client.mailbox_create(name=name)


async def listed(client, **options):
    return (await client.conversations(**options)).conversations


async def ids(client, **options):
    return [one.id for one in await listed(client, **options)]


async def ask(asker, to="bob", correlation_id="q", payload="Why?", **options):
    options = {"reply_to": "ada", **options}
    return await asker.send(to, payload, correlation_id=correlation_id, **options)


async def take(client, mail_address, **options):
    options = {"group_name": mail_address, "max_wait_ms": 0, **options}
    return await client.fetch(mail_address, **options)


class TestStates:
    """How the last question without an answer stands."""

    async def state(self, client):
        [one] = await listed(client)
        return one.state, one.waiting_for, one.holder, one.since, one.deliveries

    async def test_from_the_sending_to_the_answer(self, way, operator, ada, bob, boxes):
        await ask(ada)
        assert await self.state(operator) == ("waiting", "bob", None, START, 0)
        await way.clock.advance(5)
        [question] = await take(bob, "bob", consumer="bob/1")
        assert await self.state(operator) == ("leased", "bob", "bob/1", START + 5, 1)
        assert await self.state(ada) == ("leased", "bob", None, START + 5, 1)
        await way.clock.advance(5)
        await bob.reply(question, "Because.")
        assert (await self.state(operator))[:4] == ("answered", "bob", None, START + 10)
        [one] = await listed(operator)
        assert (one.id, one.text, one.count) == ("q", "Why?", 2)
        assert (one.began, one.last) == (START, START + 10)
        assert one.participants == (Participant("ada", True), Participant("bob", True))
        assert one.mailboxes == ("bob", "ada")

    async def test_one_that_is_given_back_or_whose_lease_ends(self, way, operator, ada, bob, boxes):
        await ask(ada)
        [question] = await take(bob, "bob")
        await bob.nack(question, delay=60)
        assert (await self.state(operator))[0] == "retrying"
        await way.clock.advance(60)
        await take(bob, "bob", consumer="bob/2", lease_ms=1_000)
        assert (await self.state(operator))[:3] == ("retrying", "bob", "bob/2")
        await way.clock.advance(1)
        assert await self.state(operator) == ("retrying", "bob", None, START + 60, 2)

    async def test_one_that_was_only_acked_is_done(self, operator, ada, bob, boxes):
        await ask(ada)
        await bob.ack((await take(bob, "bob"))[0])
        assert (await self.state(operator))[0] == "done"

    async def test_a_delayed_one(self, way, operator, ada, boxes):
        await ask(ada, delay=60)
        assert (await self.state(operator))[:2] == ("delayed", "bob")
        [delayed] = (await operator.conversation("q")).messages
        assert (delayed.message.msg_id, delayed.due, delayed.standing) == (-1, START + 60, None)
        assert delayed.message.text == "Why?"
        await way.clock.advance(60)
        assert await self.state(operator) == ("waiting", "bob", None, START + 60, 0)

    async def test_a_dead_letter_and_its_way_back(self, way, operator, ada, bob, boxes):
        await bob.mailbox_create(name="bob.dead")
        await ask(ada)
        [question] = await take(bob, "bob")
        await way.clock.advance(1)
        await bob.move(question, to="bob.dead", reason="ValueError: 7")
        [one] = await listed(operator)
        assert (one.state, one.waiting_for, one.reason) == ("dead", "bob.dead", "ValueError: 7")
        assert (one.since, one.deliveries, one.count) == (START + 1, 1, 2)
        [seen] = await listed(ada)
        assert (seen.state, seen.reason, seen.mailboxes) == ("dead", None, ("bob",))
        [letter] = await take(bob, "bob.dead", group_name="mq9.redrive")
        await bob.move(letter, to="bob")
        assert (await self.state(operator))[:2] == ("waiting", "bob")

    async def test_an_older_question_that_is_open_counts(self, way, operator, ada, bob, boxes):
        await ask(ada, headers={"conversation": "c"}, correlation_id="1")
        await ask(ada, headers={"conversation": "c"}, correlation_id="2")
        first, second = await take(bob, "bob")
        await bob.reply(second, "2!")
        assert (await self.state(operator))[0] == "leased"
        await bob.reply(first, "1!")
        assert (await self.state(operator))[0] == "answered"

    async def test_an_error_answer_names_its_code(self, operator, ada, bob, boxes):
        await ask(ada)
        [question] = await take(bob, "bob")
        await bob.reply(question, "No.", headers={"error": "failed"})
        [one] = await listed(operator)
        assert (one.state, one.reason) == ("answered", "failed")


class TestBelonging:
    """Which conversation a message belongs to."""

    async def test_the_header_counts_before_the_correlation_id(self, operator, ada, boxes):
        await ask(ada, headers={"conversation": "c"}, correlation_id="1")
        await ask(ada, headers={"conversation": "c"}, correlation_id="2")
        await ask(ada, correlation_id="3")
        await ada.send("bob", "alone")
        assert sorted(await ids(operator)) == ["/bob/3", "3", "c"]
        assert [one.message.msg_id for one in (await operator.conversation("c")).messages] == [0, 1]
        [alone] = (await operator.conversation("/bob/3")).messages
        assert alone.message.text == "alone"
        assert len((await operator.conversation("/bob/0")).messages) == 2  # that of the message

    async def test_an_answer_belongs_to_its_question(self, operator, ada, bob, boxes):
        await ask(ada, headers={"conversation": "c"})
        [question] = await take(bob, "bob")
        await bob.reply(question, "Because.")
        assert await ids(operator) == ["c"]
        await ask(ada, headers={"conversation": "d"}, correlation_id="r")
        await bob.send("ada", "by an SDK that carries no header on", correlation_id="r")
        assert sorted(await ids(operator)) == ["c", "d"]

    async def test_names_that_look_like_messages(self, operator, ada, boxes):
        await ada.send("bob", "alone")
        await ask(ada, correlation_id="/bob/0", payload="named")
        assert sorted(await ids(operator)) == ["//bob/0", "/bob/0"]
        for id_, text in (("//bob/0", "named"), ("/bob/0", "alone")):
            [one] = (await operator.conversation(id_)).messages
            assert one.message.text == text

    @pytest.mark.parametrize("id_", ["none", "/bob/7", "/none/0", "/bob/-7", "/", "//", "/bob/x"])
    async def test_one_that_is_not_there_is_empty(self, operator, boxes, id_):
        assert (await operator.conversation(id_)).messages == ()


class TestRights:
    """An agent sees what it may look at, and what it sent as itself."""

    @pytest.fixture
    async def mail(self, way, ada, bob, boxes):
        """Ada and Bob each with mail of their own, and a mailbox that is Carol's."""
        carol = await way.client(agent="carol")
        await carol.mailbox_create(name="carol")
        await ask(ada, correlation_id="to bob", headers={"conversation": "shared"})
        await ask(ada, "carol", correlation_id="to carol", payload="a secret of ada")
        await ask(bob, "carol", correlation_id="of bob", reply_to="bob", payload="a secret of bob")
        await ask(carol, "bob", correlation_id="c", headers={"conversation": "shared"})
        await carol.send("carol", "a note to myself")
        return carol

    async def test_lists(self, operator, ada, bob, mail):
        assert sorted(await ids(operator)) == ["/carol/2", "of bob", "shared", "to carol"]
        assert sorted(await ids(ada)) == ["shared", "to carol"]
        assert sorted(await ids(bob)) == ["of bob", "shared"]
        assert len(await ids(mail)) == 4

    @pytest.mark.parametrize("role", ["operator", "reader"])
    @pytest.mark.parametrize("agent", ["boss", None])
    async def test_operators_and_readers_see_all(self, way, operator, mail, agent, role):
        client = await way.client(agent=agent, role=Role(role))
        assert await listed(client) == await listed(operator)
        for id_ in await ids(operator):
            assert await client.conversation(id_) == await operator.conversation(id_)
        assert await client.links() == await operator.links()
        assert len((await client.mailbox_list_own(details=True)).mailboxes) == 3
        await way.clock.advance(600)
        seen, all_of_it = await client.stuck(), await operator.stuck()
        assert len(seen.items) == 4
        assert (seen.items, seen.counts) == (all_of_it.items, all_of_it.counts)

    async def test_only_what_is_seen_is_told_of(self, operator, ada, bob, mail):
        [shared] = await listed(ada, text="why")
        assert (shared.count, shared.participants) == (1, (Participant("ada", True),))
        assert shared.mailboxes == ("bob",)
        assert [one.message.sender for one in (await ada.conversation("shared")).messages] == [
            "ada"
        ]
        assert (await ada.conversation("of bob")).messages == ()
        assert (await ada.conversation("/carol/2")).messages == ()
        assert (await ada.conversation("/carol/0")).messages[0].message.text == "a secret of ada"
        [both] = await listed(bob, text="why")
        assert (both.count, len(both.participants)) == (2, 2)

    async def test_filters_find_nothing_else(self, operator, ada, mail):
        for options in ({"agent": "bob"}, {"mail_address": "ada"}, {"text": "secret of bob"}):
            assert await ids(ada, **options) == []
        assert await ids(ada, mail_address="carol") == ["to carol"]
        assert sorted(await ids(operator, mail_address="carol")) == [
            *("/carol/2", "of bob", "to carol")
        ]
        assert await ids(operator, agent="bob") == ["of bob"]
        assert sorted(await ids(operator, agent="carol", mail_address="carol")) == ["/carol/2"]
        assert await ids(operator, agent="nobody") == await ids(operator, mail_address="none") == []

    async def test_links(self, operator, ada, bob, mail):
        def told(links):
            return sorted((one.sender, one.mail_address, one.count) for one in links)

        assert told(await operator.links()) == [
            *(("ada", "bob", 1), ("ada", "carol", 1), ("bob", "carol", 1)),
            *(("carol", "bob", 1), ("carol", "carol", 1)),
        ]
        assert told(await ada.links()) == [("ada", "bob", 1), ("ada", "carol", 1)]
        assert told(await bob.links()) == [
            *(("ada", "bob", 1), ("bob", "carol", 1), ("carol", "bob", 1))
        ]
        assert all(one.verified and one.last == START for one in await operator.links())
        assert await operator.links(since=START + 1) == ()
        assert len(await operator.links(limit=2)) == 2

    async def test_a_name_that_is_only_claimed_is_nobodys(self, operator, ada, boxes):
        await operator.send("bob", "as ada", sender="ada")
        assert await ids(ada) == []
        assert (await listed(operator))[0].participants == (Participant("ada", False),)

    async def test_what_a_grant_changes(self, ada, bob, boxes):
        await bob.send("bob", "to myself")
        assert await ids(ada) == []
        await bob.mailbox_grant("bob", viewers=["ada"])
        assert await ids(ada) == ["/bob/0"]
        await bob.mailbox_grant("bob", viewers=[])
        assert await ids(ada) == []

    async def test_a_delayed_message_is_its_senders_until_it_is_due(self, way, ada, bob, boxes):
        await ask(ada, delay=60)
        assert (await ids(ada), await ids(bob)) == (["q"], [])
        assert (await bob.conversation("q")).messages == ()
        await way.clock.advance(60)
        assert (await ids(ada), await ids(bob)) == (["q"], ["q"])

    async def test_a_question_that_is_not_seen_is_not_named(self, ada, bob, mail):
        question = next(one for one in await take(mail, "carol") if one.correlation_id == "of bob")
        await mail.reply(question, "Never.")
        await bob.mailbox_grant("bob", viewers=["ada"])
        [answer] = (await ada.conversation("of bob")).messages
        assert (answer.message.text, answer.in_reply_to) == ("Never.", None)
        read = (await bob.conversation("of bob")).messages
        assert {one.message.text: one.in_reply_to for one in read} == {
            "a secret of bob": None,
            "Never.": ("carol", 1),
        }

    async def test_it_is_the_same_for_who_may_look_at_many(self, ada, bob, mail, monkeypatch):
        before = [await listed(one) for one in (ada, bob, mail)]
        monkeypatch.setattr("mq9.listings.conversations._MOST_PLACES", 0)
        assert [await listed(one) for one in (ada, bob, mail)] == before

    async def test_pages_of_an_agent_hold_each_conversation_once(self, way, ada, bob, mail):
        for number in range(4):
            await way.clock.advance(1)
            await ask(ada, ("bob", "carol")[number % 2], headers={"conversation": "shared"})
        for client in (ada, bob, mail):
            everything = await ids(client, limit=100)
            assert await pages(client, 1) == everything
            assert len(set(everything)) == len(everything)

    async def test_nobody_in_particular_is_refused(self, open_way, way_name):
        reply = await open_way().ask("CONVERSATION.LIST")
        assert reply["code"] == "forbidden"


async def pages(client, limit, **options):
    """The ids of all pages, one after the other."""
    found, before = [], None
    while True:
        page = await client.conversations(before=before, limit=limit, **options)
        assert len(page.conversations) <= limit
        found += [one.id for one in page.conversations]
        before = page.more
        if before is None:
            return found


class TestPages:
    """Parts of what is listed."""

    @pytest.mark.parametrize("limit", [1, 3, 7, 20])
    async def test_all_pages_are_the_whole(self, way, operator, ada, boxes, limit):
        for number in range(20):
            await ask(ada, correlation_id=f"q{number}")
            await way.clock.advance(number % 3 == 0)  # some at the same instant
        everything = await ids(operator)
        assert len(set(everything)) == 20
        times = [one.last for one in await listed(operator)]
        assert times == sorted(times, reverse=True)
        assert await pages(operator, limit) == everything
        for options in ({"agent": "ada"}, {"mail_address": "bob"}, {"state": "waiting"}):
            assert await pages(operator, limit, **options) == everything

    async def test_filters(self, operator, ada, bob, boxes):
        for number in range(6):
            await ask(ada, correlation_id=f"q{number}", payload=f"Tea or CAKE {number}?")
        for question in (await take(bob, "bob", num_msgs=3))[:2]:
            await bob.reply(question, "Both.")
        assert len(await ids(operator, state="answered")) == 2
        assert len(await ids(operator, state="leased")) == 1
        assert len(await ids(operator, state="waiting")) == 3
        assert await ids(operator, state="dead") == []
        assert await ids(operator, text="cake 4") == ["q4"]
        assert sorted(await ids(operator, text="BOTH")) == ["q0", "q1"]
        assert await ids(operator, state="waiting", text="cake 1") == []

    async def test_so_much_is_looked_through_at_once(self, operator, ada, boxes, monkeypatch):
        monkeypatch.setattr("mq9.listings.conversations._MOST_READ", 4)
        for number in range(10):
            await ask(ada, correlation_id=f"q{number}", payload=f"{number}?")
        page = await operator.conversations(text="3?")
        assert page.more is not None
        assert await pages(operator, 50, text="3?") == ["q3"]

    async def test_a_conversation_of_300_messages(self, way, operator, ada, bob, boxes):
        for number in range(150):
            headers = {"conversation": "long"}
            await ask(ada, correlation_id=f"q{number}", headers=headers, payload=f"{number}?")
            await way.clock.advance(1)
            [question] = await take(bob, "bob")
            await bob.reply(question, f"{number}!")
            await bob.ack(question)
            await way.clock.advance(1)
        [one] = await listed(operator)
        assert (one.count, one.text, one.state, one.waiting_for) == (300, "0?", "answered", "bob")
        assert (one.began, one.last) == (START, START + 299)
        assert (one.participants, one.mailboxes) == (
            (Participant("ada", True), Participant("bob", True)),
            ("bob", "ada"),
        )
        texts, after = [], None
        while True:
            part = await operator.conversation("long", after=after, limit=70)
            for read in part.messages:
                texts.append(read.message.text)
                asked = ("bob", len(texts) // 2 - 1)
                assert read.in_reply_to == (asked if read.message.text.endswith("!") else None)
            after = part.more
            if after is None:
                break
        assert texts == [f"{number}{mark}" for number in range(150) for mark in "?!"]
        small = await operator.conversation("long", max_bytes=1)
        assert (len(small.messages), small.more is None) == (1, False)

    @pytest.mark.parametrize(
        ("method", "options"),
        [
            ("conversations", {"before": "x"}),
            ("conversations", {"state": "lost"}),
            ("conversations", {"limit": 0}),
            ("conversation", {"id": ""}),
            ("conversation", {"id": "c", "after": "1.2"}),
            ("links", {"since": -1}),
            ("stuck", {"kind": "lost"}),
            ("stuck", {"after": "lost.1"}),
            ("stuck", {"leased_longer_s": 0}),
        ],
    )
    async def test_bad_input(self, operator, method, options):
        with pytest.raises(InvalidRequest):
            await getattr(operator, method)(**options)


class TestChanges:
    """What is gone is not shown, and the index comes to what a new one would be."""

    @pytest.fixture(autouse=True)
    def _few_are_checked(self, monkeypatch):
        monkeypatch.setattr("mq9.listings.index._CHECKED", 0)

    async def test_what_is_gone_disappears(self, way, operator, ada, bob, boxes):
        await ask(ada, correlation_id="deleted")
        await ask(ada, correlation_id="expired", ttl=60)
        await ask(ada, correlation_id="replaced", key="k")
        await ask(ada, correlation_id="cancelled", delay=60)
        await ask(ada, correlation_id="kept")
        await ask(ada, correlation_id="kept", ttl=60)
        assert len(await ids(operator)) == 5
        await bob.delete("bob", 0)
        await ask(ada, correlation_id="newer", key="k")
        [cancelled] = (await ada.sent(correlation_ids=["cancelled"])).sent
        await ada.cancel("bob", cancelled.delayed_id)
        await way.clock.advance(60)
        assert sorted(await ids(operator)) == ["kept", "newer"]
        [kept] = [one for one in await listed(operator) if one.id == "kept"]
        assert kept.count == 1
        assert [one.message.msg_id for one in (await operator.conversation("kept")).messages] == [3]

    async def test_a_mailbox_that_is_made_again(self, way, operator, ada, bob, boxes):
        await ask(ada)
        await ask(ada, correlation_id="other")
        await bob.mailbox_drop("bob")
        assert await ids(operator) == []
        assert await operator.links() == ()
        await bob.mailbox_create(name="bob")
        await ask(ada, payload="Anew?")
        [one] = await listed(operator)
        assert (one.id, one.text, one.count) == ("q", "Anew?", 1)
        await operator.mailbox_create(name="short", ttl=60)
        await ask(ada, "short", correlation_id="s")
        assert "s" in await ids(operator)
        await way.clock.advance(60)
        assert await ids(operator) == ["q"]
        assert await ids(operator, mail_address="short") == []

    async def test_nothing_of_the_state_changes(self, way, operator, ada, boxes):
        await ask(ada)
        before = way.state()
        await operator.conversations()
        await operator.stuck()
        assert way.state() == before

    async def test_unchanged(self, way, operator, ada, boxes):
        await ask(ada)
        for ask_again in (
            operator.conversations,
            operator.stuck,
            lambda **options: operator.conversation("q", **options),
        ):
            first = await ask_again()
            again = await ask_again(if_changed_from=first.position)
            if "one broker" in way.capabilities:
                assert (again.unchanged, again.position) == (True, first.position)
            await ask(ada)
            again = await ask_again(if_changed_from=first.position)
            assert not again.unchanged
            assert again.position > first.position


class TestBuilding:
    """The index is made when somebody asks, in parts."""

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch):
        monkeypatch.setattr("mq9.listings.index.AT_ONCE", 7)
        monkeypatch.setattr("mq9.listings.listings.MOST_S", 0)

    async def test_progress(self, way, operator, ada, boxes):
        for number in range(20):
            await ask(ada, correlation_id=f"q{number}")
        if "one broker" not in way.capabilities:
            pytest.skip("each gateway has an index of its own")
        told = []
        while (page := await operator.conversations()).building is not None:
            told.append((page.building, len(page.conversations)))
            assert not (await operator.conversations(if_changed_from=page.position)).unchanged
            break
        assert told == [(Progress(7, 20), 7)]
        while (await operator.conversations()).building is not None:
            pass
        assert len(await ids(operator)) == 20

    async def test_those_who_come_together(self, way, operator, ada, boxes):
        for number in range(40):
            await ask(ada, correlation_id=f"q{number}")
        if "one broker" not in way.capabilities:
            pytest.skip("each gateway has an index of its own")
        asked = [operator.conversations() for _ in range(5)]
        together = await asyncio.gather(*asked)
        assert all(page.building is not None for page in together)
        while (await operator.conversations()).building is not None:
            pass
        assert len(await ids(operator)) == 40
