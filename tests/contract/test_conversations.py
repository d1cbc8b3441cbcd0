"""CONVERSATION.LIST, READ and LINKS: what goes on, for those who may see it."""

import pytest

from mq9.models import Participant

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
