"""Rights of operators and readers, with a name and without one, beside those of agents."""

from dataclasses import dataclass

import pytest

from mq9 import Identity, Role
from mq9.protocol.verbs import VERBS, Target

from .reading import bodies, refused

AGENTS = ["ada", "bob", "boss", "auditor"]


@dataclass(frozen=True)
class Who:
    """One who asks: an agent's name, and a role."""

    agent: str | None
    role: Role | None

    def __str__(self):
        return f"{self.role}-{self.agent}"

    @property
    def credentials(self):
        return {"agent": self.agent, "role": self.role}


AGENT = Who("bob", Role.AGENT)
OPERATORS = [Who(None, Role.OPERATOR), Who("boss", Role.OPERATOR)]
READERS = [Who(None, Role.READER), Who("auditor", Role.READER)]
EVERYBODY = [AGENT, *OPERATORS, *READERS]

HERE = "adas.box"  # made by ada, with one message, and closed to all others
ONE = {"group_name": "g", "consumer": "c", "msg_id": 0}
# Requests that concern what is ada's; the others have no fields.
BODIES = {
    "CONVERSATION.READ": {"id": "c"},
    "MAILBOX.CREATE": {"name": HERE, "renew": True},
    "MAILBOX.GRANT": {"readers": ["carol"]},
    "MSG.FETCH": {"group_name": "g", "config": {"max_wait_ms": 0}},
    "MSG.ACK": ONE,
    "MSG.NACK": ONE,
    "MSG.EXTEND": {"group_name": "g", "consumer": "c", "msg_ids": [0]},
    "MSG.RELEASE": {"group_name": "g", "consumer": "c", "request_id": "r"},
    "MSG.MOVE": {**ONE, "to": "elsewhere"},
    "MSG.NOTICE": {"host": "h", "session": "s", "occasion": "start"},
    "MSG.CANCEL": {"delayed_id": 1},
    "MSG.SENT": {"sender": "ada"},
    "AGENT.REGISTER": {"name": "ada"},
    "AGENT.UNREGISTER": {"name": "ada"},
    "AGENT.REPORT": {"name": "ada", "load": 1},
    "AGENT.LOOKUP": {"names": ["ada"], "wrote_to": HERE},
}
# What each verb comes to: for an agent that was granted nothing, an operator, and a reader. An
# operator may use mailboxes, and neither registers nor unregisters as an agent.
DONE, NOT, MEETS = "done", "forbidden", "meets nothing"
WHO_MAY = {
    #                    agent  operator  reader
    "MAILBOX.CREATE": (NOT, DONE, NOT),
    "MAILBOX.DROP": (NOT, DONE, NOT),
    "MAILBOX.STATUS": (NOT, DONE, DONE),
    "MAILBOX.GRANT": (NOT, DONE, NOT),
    "OWN.LIST": (DONE, DONE, DONE),
    "PUBLIC.LIST": (DONE, DONE, DONE),
    "MSG.SEND": (NOT, DONE, NOT),
    "MSG.FETCH": (NOT, DONE, NOT),
    "MSG.ACK": (NOT, MEETS, NOT),
    "MSG.NACK": (NOT, MEETS, NOT),
    "MSG.MOVE": (NOT, MEETS, NOT),
    "MSG.EXTEND": (NOT, DONE, NOT),
    "MSG.RELEASE": (NOT, DONE, NOT),
    "MSG.QUERY": (NOT, DONE, DONE),
    "MSG.SENT": (NOT, DONE, DONE),
    "CONVERSATION.LIST": (DONE, DONE, DONE),
    "CONVERSATION.READ": (DONE, DONE, DONE),
    "CONVERSATION.LINKS": (DONE, DONE, DONE),
    "STUCK.LIST": (DONE, DONE, DONE),
    "MSG.NOTICE": (NOT, DONE, NOT),
    "MSG.DELETE": (NOT, DONE, NOT),
    "MSG.CANCEL": (MEETS, MEETS, NOT),
    "AGENT.REGISTER": (NOT, NOT, NOT),
    "AGENT.UNREGISTER": (NOT, NOT, NOT),
    "AGENT.REPORT": (NOT, NOT, NOT),
    "AGENT.DISCOVER": (DONE, DONE, DONE),
    "AGENT.LOOKUP": (NOT, DONE, DONE),
    "AGENT.WHOAMI": (DONE, DONE, DONE),
}


def subject(verb):
    """Return what follows `$mq9.AI.` in a request of a verb that concerns the box of ada."""
    rest = {Target.BROKER: "", Target.MESSAGE: f".{HERE}.0"}
    return verb.name + rest.get(verb.target, f".{HERE}")


def outcome(reply):
    """Return in a word what a reply says."""
    if not reply["error"]:
        return DONE
    return NOT if reply["code"] == "forbidden" else MEETS


@pytest.fixture
async def box(ada):
    """A mailbox of ada's that takes messages of nobody else, with one message."""
    await ada.agent_register({"name": "ada"})
    await ada.mailbox_create(name=HERE, send_policy="creator")
    await ada.send(HERE, "for ada")
    return HERE


@pytest.fixture
async def boss(way):
    return await way.client(agent="boss", role=Role.OPERATOR)


def test_every_verb_says_what_it_is_to_each_role():
    assert WHO_MAY.keys() == VERBS.keys()


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
@pytest.mark.parametrize("who", EVERYBODY, ids=str)
async def test_each_verb_is_done_for_those_whose_role_allows_it(way, box, who, verb):
    place = [AGENT.role, Role.OPERATOR, Role.READER].index(who.role)
    before = way.state()

    reply = await way.ask(subject(verb), BODIES.get(verb.name, {}), **who.credentials)

    assert outcome(reply) == WHO_MAY[verb.name][place], reply
    if who.role is Role.READER:
        assert way.state() == before
        if WHO_MAY[verb.name][place] is NOT:
            assert "you are a reader" in reply["error"]
            assert "ask an operator" in reply["error"]
            assert verb.name in reply["error"]


class TestNames:
    """What a name adds to a role."""

    @pytest.mark.parametrize("who", EVERYBODY, ids=str)
    async def test_the_broker_says_whom_it_takes_a_client_for(self, way, who):
        client = await way.client(**who.credentials)

        assert await client.identity() == Identity(who.agent, who.role)
        assert await client.whoami() == who.agent

    async def test_who_states_no_role_is_an_agent_or_an_operator(self, way, ada):
        assert await ada.identity() == Identity("ada", Role.AGENT)
        assert await (await way.client()).identity() == Identity(None, Role.OPERATOR)

    async def test_an_operator_with_a_name_is_a_verified_sender(self, ada, box, boss, client):
        await boss.send(box, "from boss")
        await client.send(box, "from an operator without a name", sender="boss")

        _, named, claimed = await ada.query(box)
        assert (named.sender, named.sender_verified) == ("boss", True)
        assert (claimed.sender, claimed.sender_verified) == ("boss", False)

    async def test_the_mailbox_of_the_name_is_reserved(self, way, boss, bob, client):
        for other in (bob, client):
            await refused(other.mailbox_create(name="boss"), other.mailbox_create(name="boss.desk"))
        await boss.mailbox_create(name="boss", send_policy="creator")
        await refused(bob.send("boss", "x"), bob.query("boss"))

    async def test_an_operator_makes_no_mailbox_at_the_address_of_an_agent(self, boss):
        await refused(boss.mailbox_create(name="ada"), boss.mailbox_create(name="ada.desk"))

    async def test_a_mailbox_stays_its_creators_when_an_operator_uses_it(self, ada, box, boss, way):
        await boss.fetch(box, group_name="g")
        await boss.mailbox_grant(box, viewers=["bob"])
        await boss.mailbox_create(name=box, renew=True)

        assert (await ada.mailbox_status(box)).own
        assert not (await boss.mailbox_status(box)).own
        assert bodies(await (await way.client(agent="bob")).query(box)) == ["for ada"]

    async def test_a_mailbox_that_nobody_made_stays_so_when_an_operator_grants_it(
        self, way, client, boss
    ):
        await client.mailbox_create(name="old")
        await boss.mailbox_grant("old", viewers=["bob"])

        page = await boss.mailbox_list_own()
        assert [one.creator for one in page.mailboxes] == [None]

    async def test_what_no_agent_registered_an_operator_with_a_name_may_remove(self, client, boss):
        await client.agent_register({"name": "old"})
        await boss.agent_unregister(name="old")


class TestLists:
    """What is listed for whom."""

    @pytest.mark.parametrize("who", [*OPERATORS, *READERS], ids=str)
    async def test_operators_and_readers_list_all_mailboxes(self, way, box, bob, who):
        await bob.mailbox_create(name="bobs.box")
        page = await (await way.client(**who.credentials)).mailbox_list_own()

        assert [one.mail_address for one in page.mailboxes] == ["ada", box, "bobs.box"]

    @pytest.mark.parametrize("who", [*OPERATORS, *READERS], ids=str)
    async def test_they_list_what_others_sent_and_what_came_of_it(self, way, ada, box, bob, who):
        await bob.mailbox_create(name="bobs.box")
        await bob.send("ada", "a question", correlation_id="1", reply_to="bobs.box")
        await ada.send("bobs.box", "the answer", correlation_id="1")
        listing = await way.client(**who.credentials)

        [asked] = (await listing.sent(sender="bob")).sent
        assert (asked.mail_address, asked.answer.mail_address) == ("ada", "bobs.box")

    async def test_who_has_a_name_lists_what_it_sent_without_saying_so(self, boss, box):
        await boss.send(box, "x", correlation_id="1")

        assert len((await boss.sent()).sent) == 1

    async def test_an_agent_lists_its_own_only(self, bob, box):
        assert (await bob.mailbox_list_own()).mailboxes == ()
        await refused(bob.sent(sender="ada"))

    @pytest.mark.parametrize("who", READERS, ids=str)
    async def test_a_reader_sees_to_whom_a_mailbox_is_granted(self, way, ada, box, who):
        await ada.mailbox_grant(box, ["bob"])
        status = await (await way.client(**who.credentials)).mailbox_status(box)

        assert list(status.readers) == ["bob"]
        assert status.rights == ("look",)


class TestReaders:
    """How a reader reads."""

    @pytest.mark.parametrize("who", READERS, ids=str)
    async def test_a_fetch_without_a_group_leaves_nothing_behind(self, way, ada, box, who):
        await ada.agent_register({"name": "ada"})
        before = way.state()
        client = await way.client(**who.credentials)

        fetched = await client.fetch(box, deliver="earliest")

        assert bodies(fetched) == ["for ada"]
        assert way.state() == before

    async def test_it_is_no_sign_of_life_of_the_readers_name(self, way, ada, box, client):
        auditor = await way.client(agent="auditor")
        await auditor.agent_register({"name": "auditor"})
        await way.clock.advance(3600)
        before = way.state()

        await (await way.client(agent="auditor", role=Role.READER)).fetch(box, deliver="earliest")

        assert way.state() == before

    async def test_it_takes_nothing_that_is_granted_to_its_name_either(self, way, ada, box):
        await ada.mailbox_grant(box, ["auditor"], senders=["auditor"], send_policy="granted")
        auditor = await way.client(agent="auditor", role=Role.READER)

        await refused(
            auditor.fetch(box, group_name="g"), auditor.send(box, "x"), match="you are a reader"
        )

    async def test_a_mailbox_at_its_own_address_does_not_become_its_own_by_looking(self, open_way):
        way = open_way()  # where no agents are configured yet
        await (await way.client()).mailbox_create(name="auditor")
        way.configure(AGENTS)
        before = way.state()

        await (await way.client(agent="auditor", role=Role.READER)).fetch("auditor", max_wait_ms=0)

        assert way.state() == before


class TestLog:
    """An operator's changes are logged."""

    @pytest.mark.parametrize("who", OPERATORS, ids=str)
    async def test_who_changed_what_is_logged_without_what_was_sent(self, way, box, caplog, who):
        told = who.agent or "without a name"
        operator = await way.client(**who.credentials)
        caplog.set_level("INFO", "mq9.broker")

        await operator.send(box, "a secret body")
        await operator.fetch(box, group_name="g", deliver="earliest")
        await operator.query(box)

        assert [line for line in caplog.messages if line.startswith("operator")] == [
            f"operator {told}: MSG.SEND {box}",
            f"operator {told}: MSG.FETCH {box}",
        ]
        assert "secret" not in caplog.text

    async def test_what_agents_do_is_not(self, ada, box, caplog):
        caplog.set_level("INFO", "mq9.broker")
        await ada.send(box, "x")

        assert "operator" not in caplog.text
