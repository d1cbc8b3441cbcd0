"""Paths of conversations: what a sent message gets, and what stops a taken one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_mq9 import Mq9Toolkit
from mq9.engine.commands import Limits
from mq9.operations.conversations import HIGHEST_MAX_HOPS, extended, reason_to_stop
from mq9.protocol import checks
from mq9.testing import FakeBroker

from .tool_calls import answer, bodies, do, fetch, ids, run_in, send

NAMES = st.text(st.sampled_from("ab,é"), min_size=1, max_size=128)


class TestTheRules:
    def test_a_comma_in_a_name_stands_there_as_a_semicolon(self):
        path = extended(["B", "C"], "Smith, John")
        assert path == ("B", "C", "Smith; John")
        assert reason_to_stop([*path, "D", "E"], "Smith, John") is not None

    @given(st.lists(NAMES.map(lambda name: name.replace(",", ";")), max_size=80), NAMES)
    def test_what_is_sent_and_why_it_is_stopped_are_always_taken_by_the_protocol(self, path, agent):
        sent = extended(path, agent)
        assert checks.path("path", sent) == sent
        assert extended(sent, agent)[-1] == sent[-1]
        for limit in (1, HIGHEST_MAX_HOPS):
            reason = reason_to_stop(sent, agent, max_hops=limit)
            assert reason is None or len(reason) <= 1_024

    @pytest.mark.parametrize(
        ("path", "agent"),
        [
            ("", "A"),
            ("B", "A"),
            ("A", "A"),  # a note to itself
            ("AB", "A"),  # an answer, or a question about the question
            ("ABAB", "A"),
            ("ABCB", "A"),  # B asked C before it answered
            ("ABA", "B"),  # asked again
            ("ABAC", "B"),  # asked by another, after it had answered
            ("ABCBDB", "A"),
            ("ABCA", "A"),  # let through before: it was an answer
        ],
    )
    def test_no_circle(self, path, agent):
        assert reason_to_stop(list(path), agent) is None

    @pytest.mark.parametrize(
        ("path", "agent", "shown"),
        [
            ("ABC", "A", "a circle: A, B, C, A"),
            ("XABC", "A", "a circle: X, A, B, C, A"),
            ("ABACD", "A", "a circle: A, B, A, C, D, A"),
            ("ABCD", "B", "a circle: A, B, C, D, B"),
        ],
    )
    def test_a_circle_is_shown_and_is_none_if_it_is_an_answer(self, path, agent, shown):
        assert reason_to_stop(list(path), agent) == shown
        assert reason_to_stop(list(path), agent, is_answer=True) is None

    def test_hops_are_limited_for_answers_too(self):
        assert reason_to_stop(list("ABA"), "B", max_hops=3) is None
        for is_answer in (False, True):
            assert (
                reason_to_stop(list("ABAB"), "A", max_hops=3, is_answer=is_answer)
                == "too many hops, 4 of at most 3: A, B, A, B"
            )


class Agents:
    """Agents on one broker, each with tools of its own."""

    def __init__(self, open_toolkit, **options):
        self._open = open_toolkit
        self._options = options
        self._toolkits = {}

    def __getitem__(self, name):
        if name not in self._toolkits:
            self._toolkits[name] = self._open(name, **self._options)
            do(self._toolkits[name], "agent_discover")  # makes its mailbox
        return self._toolkits[name]

    def send(self, sender, recipient, content="hello", **options):
        """Send from one to another."""
        for name in (sender, recipient):
            self[name]
        address = options.pop("mail_address", recipient.lower())
        do(self[sender], "send_message", to=address, content=content, **options)

    def take(self, name, **options):
        """Fetch what is there, and confirm it."""
        said = fetch(self[name], **options)
        if said["messages"]:
            do(self[name], "ack_messages", msg_id=ids(said))
        return said


@pytest.fixture
def agents(open_toolkit):
    return Agents(open_toolkit)


async def paths_in(broker, address):
    return [message.path for message in await broker.client().query(address)]


async def test_a_circle_is_stopped_with_its_path(agents, broker, caplog):
    for sender, recipient in itertools.pairwise("ABCA"):
        agents.send(sender, recipient, "please see to it")
        said = agents.take(recipient)
    assert said["messages"] == []
    assert "leased_seconds" not in said
    assert said["stopped"] == {
        "msg_ids": [0],
        "moved_to": "a.dead",
        "untrusted_reasons": ["a circle: A, B, C, A"],
    }
    assert "message 0 of a was moved to a.dead: a circle: A, B, C, A" in caplog.text
    [dead] = await broker.client().query("a.dead")
    assert (dead.text, dead.path) == ("please see to it", ("A", "B", "C"))
    assert dead.moved.reason == "a circle: A, B, C, A"
    assert fetch(agents["A"])["empty"] == "no mail waits"


def test_the_agent_may_look_at_what_was_stopped(agents):
    for sender, recipient in itertools.pairwise("ABCA"):
        agents.send(sender, recipient, "please see to it")
        agents.take(recipient)
    for tool in ("query_messages", "fetch_messages"):
        assert bodies(do(agents["A"], tool, mail_address="a.dead")) == ["please see to it"]


def test_two_polite_agents_are_stopped_by_the_hop_limit(agents):
    agents.send("A", "B", "thank you")
    rounds = 0
    for name, other in itertools.cycle([("B", "A"), ("A", "B")]):
        said = agents.take(name)
        if not said["messages"]:
            break
        rounds += 1
        reply_to = said["messages"][0]["untrusted_envelope"]["reply_to"]
        agents.send(name, other, "no, thank you", mail_address=reply_to)
    assert rounds == 32
    [reason] = said["stopped"]["untrusted_reasons"]
    ends = ", ".join("ABABABABAB"), ", ".join("BABABABABA")
    assert reason == f"too many hops, 33 of at most 32: {ends[0]}, …, {ends[1]}"


async def test_what_is_asked_again_and_again_does_not_come_nearer_to_the_limit(agents, broker):
    for number in range(40):
        agents.send("A", "B", "?", correlation_id=f"q{number}")
        [question] = agents.take("B")["messages"]
        envelope = question["untrusted_envelope"]
        agents.send(
            "B",
            "A",
            "!",
            mail_address=envelope["reply_to"],
            correlation_id=envelope["correlation_id"],
        )
        assert bodies(agents.take("A")) == ["!"]
    assert set(await paths_in(broker, "b")) == {("A",)}
    assert set(await paths_in(broker, "a")) == {("A", "B")}


def test_an_answer_through_others_is_known_by_its_correlation_id(agents):
    for asked in ("q", None):
        agents.send("A", "B", "who knows?", correlation_id=asked)
        agents.take("B")
        agents.send("B", "C", "tell A", reply_to="a", correlation_id=asked)
        agents.take("C")
        agents.send("C", "A", "I know", correlation_id=asked)
        said = agents.take("A")
        assert bodies(said) == (["I know"] if asked else [])


def test_an_answer_through_others_is_known_by_the_mailbox_it_was_asked_to(agents):
    private = do(agents["A"], "create_mailbox")["mail_address"]
    agents.send("A", "B", "who knows?", reply_to=private)
    agents.take("B")
    agents.send("B", "C", "tell A", reply_to=private)
    agents.take("C")
    agents.send("C", "A", "I know", mail_address=private)
    assert bodies(agents.take("A", mail_address=private)) == ["I know"]


async def test_each_message_goes_on_with_the_one_that_it_answers(agents, broker):
    agents.send("B", "A", "from B")
    agents.send("C", "B", "to B")
    agents.take("B")
    agents.send("B", "A", "for C", reply_to="b.private", correlation_id="1")
    agents.send("D", "A", "from D")
    agents.take("A")
    client = broker.client()
    await client.mailbox_create(name="b.private")
    agents.send("A", "B", "answers the first", mail_address="b")
    agents.send("A", "B", "answers the second", mail_address="b.private")
    agents.send("A", "E", "that of the second", correlation_id="1")
    agents.send("A", "E", "a question, for the one from D")
    agents.send("A", "D", "answers that")
    agents.send("A", "E", "no answer to anything")
    assert (await paths_in(broker, "b"))[-1:] == [("B", "A")]
    assert await paths_in(broker, "b.private") == [("C", "B", "A")]
    assert await paths_in(broker, "e") == [("C", "B", "A"), ("D", "A"), ("A",)]


async def test_an_answer_is_no_task_that_a_new_question_is_asked_for(agents, broker):
    agents.send("A", "B", "?")
    agents.take("B")
    agents.send("B", "A", "!", reply_to="elsewhere")
    agents.take("A")
    agents.send("A", "C", "?")
    assert await paths_in(broker, "c") == [("A",)]


async def test_what_is_answered_is_no_task_when_it_is_fetched_again(agents, broker):
    agents.send("B", "A", "?")
    fetch(agents["A"])
    agents.send("A", "B", "!")
    assert len(fetch(agents["A"], include_held=True)["messages"]) == 1
    agents.send("A", "C", "?")
    assert await paths_in(broker, "c") == [("A",)]


async def test_a_task_of_one_thread_is_none_of_another(agents, broker):
    agents.send("B", "A", "a task")
    await broker.client().mailbox_create(name="c")
    answer(agents["A"], "fetch_messages", config=run_in("1"), wait_seconds=0)
    for thread in ("1", "2"):
        answer(
            agents["A"],
            "send_message",
            config=run_in(thread),
            mail_address="c",
            content=f"for thread {thread}",
        )
    assert await paths_in(broker, "c") == [("B", "A"), ("A",)]


async def test_what_was_fetched_an_hour_ago_is_not_gone_on_with(agents, broker):
    agents.send("B", "A")
    agents.take("A")
    await broker.clock.advance(3600)
    agents.send("A", "C")
    await broker.clock.advance(0.001)
    agents.send("A", "C")
    assert await paths_in(broker, "c") == [("B", "A"), ("A",)]


async def test_the_path_of_the_run_is_gone_on_with(agents, broker):
    await broker.client().mailbox_create(name="b")
    message = answer(
        agents["A"],
        "send_message",
        config={"configurable": {"thread_id": "1", "mq9_path": ["X", "Y"]}},
        mail_address="b",
        content="hello",
    )
    assert message.status == "success"
    assert await paths_in(broker, "b") == [("X", "Y", "A")]


async def test_tools_of_no_agent_add_nothing_and_stop_nothing(agents, anyone, broker):
    for sender, recipient in itertools.pairwise("ABCA"):
        agents.send(sender, recipient)
        fetch(anyone, mail_address=recipient.lower(), group_name="anyone")
        agents.take(recipient)
    send(anyone, "from nobody", "b")
    assert (await paths_in(broker, "b"))[-1] == ()
    assert len(fetch(anyone, mail_address="a", group_name="others")["messages"]) == 1


def test_the_limit_and_the_mailbox_are_options(open_toolkit, broker):
    agents = Agents(open_toolkit, max_hops=1, dead_letter="lost.and.found")
    agents.send("A", "B")
    agents.take("B")
    agents.send("B", "C")
    agents.send("A", "C", "this one")
    said = agents.take("C")
    assert bodies(said) == ["this one"]
    assert said["stopped"] == {
        "msg_ids": [0],
        "moved_to": "lost.and.found",
        "untrusted_reasons": ["too many hops, 2 of at most 1: A, B"],
    }


async def test_what_cannot_be_moved_is_given_back_for_a_while():
    with FakeBroker(limits=Limits(max_messages=1)) as broker:
        client = broker.client()
        await client.mailbox_create(name="dead")
        await client.mailbox_create(name="b")
        stuck = await client.send("dead", "fills it")
        await client.send("b", "far travelled", path=["X", "Y"])
        with Mq9Toolkit(broker.url, agent="B", max_hops=1, dead_letter="dead") as toolkit:
            said = fetch(toolkit)
            assert said["messages"] == []
            assert "stopped" not in said
            assert fetch(toolkit)["empty"] == "1 given back, held for 600 s more"
            await client.delete("dead", stuck)
            await broker.clock.advance(600)
            assert fetch(toolkit)["stopped"]["moved_to"] == "dead"
        assert [one.text for one in await client.query("dead")] == ["far travelled"]


class TestConversations:
    """Which messages people are shown as one conversation."""

    async def conversations(self, broker):
        page = await broker.client().conversations()
        return [(one.id, one.count) for one in page.conversations]

    async def test_the_rounds_of_two_agents_are_one(self, agents, broker):
        agents.send("A", "B", "Tea?", correlation_id="first")
        [question] = ids(fetch(agents["B"]))
        do(agents["B"], "send_message", reply_to_msg=question, content="Green?")
        [first] = ids(fetch(agents["A"]))
        do(agents["A"], "send_message", reply_to_msg=first, content="Black.")
        [second] = ids(fetch(agents["B"]))
        do(agents["B"], "send_message", reply_to_msg=second, content="Milk?")
        [third] = ids(fetch(agents["A"]))
        do(agents["A"], "send_message", to="b", content="No milk.")

        assert await self.conversations(broker) == [("first", 5)]
        last = (await broker.client().conversation("first")).messages[-1].message
        assert last.headers == {"part-of-conversation": "first"}
        assert last.correlation_id != "first"
        assert third > first

    async def test_what_is_asked_for_a_message_belongs_to_it(self, agents, broker):
        agents.send("A", "B", "Tea?", correlation_id="first")
        agents.take("B")
        agents.send("B", "C", "Have we tea?")
        [question] = ids(fetch(agents["C"]))
        do(agents["C"], "send_message", reply_to_msg=question, content="Yes.")
        agents.take("B")
        agents.send("B", "A", "Here it is.", correlation_id="first")
        assert await self.conversations(broker) == [("first", 4)]
        [answer] = await broker.client().query("a")
        assert not answer.headers  # its correlation id says it

    async def test_other_questions_are_others(self, agents, broker):
        agents.send("A", "B", correlation_id="1")
        agents.send("A", "B", correlation_id="2")
        assert sorted(await self.conversations(broker)) == [("1", 1), ("2", 1)]
