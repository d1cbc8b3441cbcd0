"""LangGraph threads of one agent: each has a private mailbox for its answers."""

import asyncio
import json
from collections import Counter

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9 import Mq9Toolkit, QueryMessagesTool, SendMessageTool, Session
from langchain_mq9.calls import thread_mailbox
from langchain_mq9.session import ToolConnection
from langchain_mq9.testing import ScriptedModel, call
from mq9 import MailboxNotFound, address
from mq9.operations.caller import TTL_S
from mq9.operations.identity import agent_key

from .tool_calls import (
    aanswer,
    ado,
    answer,
    asend,
    awithin,
    begin,
    bodies,
    fetch,
    ids,
    run_in,
    send,
    within,
)

NOW = {"wait_seconds": 0}


def test_the_address_of_a_threads_mailbox_is_the_same_in_every_process_and_release():
    assert thread_mailbox("planner", "7") == "thread.334a4618240fea58a304db479362b35f"


def test_who_has_another_key_does_not_know_it(monkeypatch):
    before = thread_mailbox("planner", "7")
    agent_key.cache_clear()
    monkeypatch.setenv("MQ9_AGENT_KEY", "another key of other agents, as long")
    try:
        assert thread_mailbox("planner", "7") != before
    finally:
        agent_key.cache_clear()


@pytest.mark.parametrize("thread_id", ["", "Grüße\0\udc80"])
def test_every_thread_has_an_address_of_its_own(thread_id):
    found = thread_mailbox("planner", thread_id)

    assert address.parse(found) == found
    assert found.startswith("thread.")
    assert len({found, thread_mailbox("planner", "8"), thread_mailbox("worker", thread_id)}) == 3


def ask(thread, planner, content="x", **arguments):
    """Let a thread of the planner ask the worker; where the answer is to go."""
    within(thread, planner, "send_message", to="worker", content=content, **arguments)
    return thread_mailbox("planner", thread)


def tell(toolkit, mail_address, content):
    return send(toolkit, content, mail_address)["msg_id"]


def reply_addresses(worker):
    envelopes = [one["untrusted_envelope"] for one in fetch(worker)["messages"]]
    return [one["reply_to"] for one in envelopes]


def test_what_a_thread_sends_is_answered_in_its_private_mailbox(planner, worker, anyone):
    ask("one", planner)
    ask("two", planner)
    ask("one", planner, reply_to="planner")
    send(planner, "outside of threads", "worker")

    assert reply_addresses(worker) == [
        thread_mailbox("planner", "one"),
        thread_mailbox("planner", "two"),
        "planner",
        "planner",
    ]
    assert tell(anyone, thread_mailbox("planner", "one"), "an answer") == 0


def test_one_inbox_for_all_threads_if_that_is_wanted(open_toolkit, worker, anyone):
    planner = open_toolkit("planner", inbox="agent")
    ask("one", planner)
    ask("one", planner.for_agent("writer"))

    assert reply_addresses(worker) == ["planner", "writer"]
    tell(worker, "planner", "an answer")
    assert within("two", planner, "fetch_messages", **NOW)["mail_address"] == "planner"


def test_a_thread_takes_its_answers_first_and_then_the_agents_mail(planner, worker):
    private = ask("one", planner)
    tell(worker, "planner", "unasked")
    tell(worker, private, "an answer")

    first = within("one", planner, "fetch_messages", **NOW)
    second = within("one", planner, "fetch_messages", **NOW)

    assert (first["mail_address"], bodies(first)) == (private, ["an answer"])
    assert (second["mail_address"], bodies(second)) == ("planner", ["unasked"])


def test_what_is_held_keeps_a_thread_from_nothing_new(planner, worker):
    private = ask("one", planner)
    tell(worker, private, "an answer")
    tell(worker, "planner", "unasked")
    fetched = [within("one", planner, "fetch_messages", **NOW) for _ in range(3)]

    assert [bodies(one) for one in fetched] == [["an answer"], ["unasked"], []]
    assert fetched[-1]["held"] == [
        {"msg_id": 0, "seconds_left": 3_600, "mail_address": private},
        {"msg_id": 0, "seconds_left": 3_600},
    ]
    assert within("one", planner, "ack_messages", msg_id=0, mail_address=private)["acked"] == [0]
    assert len(within("one", planner, "fetch_messages", **NOW)["held"]) == 1


def test_an_ack_finds_out_by_itself_which_of_both_is_meant(planner, worker):
    private = ask("one", planner)
    tell(worker, private, "an answer")
    within("one", planner, "fetch_messages", **NOW)
    assert within("one", planner, "ack_messages", msg_id=0)["mail_address"] == private
    tell(worker, "planner", "unasked")
    within("one", planner, "fetch_messages", **NOW)

    said = within("one", planner, "ack_messages", msg_id=0)
    again = within("one", planner, "ack_messages", msg_id=0)

    assert said == again == {"mail_address": "planner", "acked": [0]}


def test_an_id_that_is_held_from_both_is_to_be_named(planner, worker):
    private = ask("one", planner)
    for mail_address in (private, "planner"):
        tell(worker, mail_address, "x")
        within("one", planner, "fetch_messages", **NOW)

    told = answer(planner, "ack_messages", config=run_in("one"), msg_id=0)

    assert told.content.startswith(f"mail_address: you fetched 0 from planner and {private};")
    said = within("one", planner, "ack_messages", msg_id=0, mail_address="planner")
    assert said["acked"] == [0]
    given_back = within("one", planner, "ack_messages", msg_id=0, outcome="give_back")
    assert (given_back["mail_address"], given_back["given_back"]) == (private, [0])


def test_other_threads_may_not_read_a_threads_mailbox(planner, worker):
    private = ask("one", planner)
    tell(worker, private, "an answer")

    for toolkit, config in ((planner, run_in("two")), (planner, None), (worker, run_in("one"))):
        for name in ("fetch_messages", "query_messages"):
            told = answer(toolkit, name, config=config, mail_address=private)
            assert "This is not allowed to you" in told.content
    assert bodies(within("one", planner, "query_messages", mail_address=private)) == ["an answer"]
    assert ids(within("one", planner, "fetch_messages", mail_address=private, **NOW)) == [0]


async def test_nor_where_the_broker_knows_who_made_it(broker, worker):
    connection = ToolConnection(lambda: broker.client(agent="planner"))
    session = Session(agent="planner", connection=connection)
    arguments = {"mail_address": "worker", "content": "x"}
    await SendMessageTool(session=session).ainvoke(arguments, run_in("one"))
    look = QueryMessagesTool(session=session)
    private = {"mail_address": thread_mailbox("planner", "one")}

    assert "This is not allowed to you" in await look.ainvoke(private, run_in("two"))
    assert '"messages":[]' in await look.ainvoke(private, run_in("one"))
    connection.close()


async def test_a_thread_that_asks_nothing_has_no_mailbox(broker, planner, worker):
    await asend(worker, "x", "worker")
    said = await awithin("one", planner, "fetch_messages", **NOW)

    assert (said["mail_address"], said["empty"]) == ("planner", "no mail waits")
    async with broker.client() as client:
        with pytest.raises(MailboxNotFound):
            await client.mailbox_status(thread_mailbox("planner", "one"))


def test_a_thread_that_is_resumed_by_another_process_finds_its_answers(open_toolkit, worker):
    before = open_toolkit("planner")
    private = ask("one", before)
    before.close()
    tell(worker, private, "an answer")
    tell(worker, private, "and another")

    after = open_toolkit("planner")

    said = within("one", after, "fetch_messages", limit=1, **NOW)
    assert (said["mail_address"], bodies(said)) == (private, ["an answer"])
    assert said["your_unread"].startswith("1 unread")


def test_unread_mail_is_that_of_the_thread_and_that_of_the_agent(planner, worker):
    private = ask("one", planner)
    tell(worker, private, "an answer")
    tell(worker, "planner", "unasked")
    send(worker, "hurry", private, priority="critical")

    assert within("one", planner, "agent_discover")["your_unread"].startswith(
        "3 unread (1 critical, 2 normal)"
    )
    assert within("two", planner, "agent_discover")["your_unread"].startswith("1 unread:")


async def test_a_private_mailbox_lasts_as_long_as_it_is_used(broker, planner, worker):
    async def fetched():
        return await awithin("one", planner, "fetch_messages", **NOW)

    private = thread_mailbox("planner", "one")
    await awithin("one", planner, "send_message", to="worker", content="x")
    await broker.clock.advance(TTL_S - 1)
    assert (await fetched())["empty"] == "no mail waits"
    await broker.clock.advance(TTL_S - 1)
    await asend(worker, "late", private)
    assert bodies(await fetched()) == ["late"]
    await broker.clock.advance(TTL_S)

    assert (await fetched())["mail_address"] == "planner"
    await awithin("one", planner, "send_message", to="worker", content="y")
    await asend(worker, "later", private)
    assert bodies(await fetched()) == ["later"]


async def test_a_private_mailbox_that_was_dropped_is_made_again(broker, planner, worker):
    private = thread_mailbox("planner", "one")
    send = {"mail_address": "worker", "content": "x"}
    await awithin("one", planner, "send_message", **send)
    async with broker.client() as client:
        await client.mailbox_drop(private)
        said = await awithin("one", planner, "send_message", **send)
        assert "your_unread" not in said

        await awithin("one", planner, "send_message", **send)
        assert (await client.mailbox_status(private)).ttl == TTL_S


@pytest.fixture
async def waiting(broker, planner, worker):
    """A thread that has asked, and waits: its task, and its private mailbox."""
    await awithin("one", planner, "send_message", to="worker", content="x")
    wait = aanswer(planner, "fetch_messages", config=run_in("one"), wait_seconds=45)
    task = await begin(broker, wait, waiting=2)
    return task, thread_mailbox("planner", "one")


@pytest.mark.parametrize("which", ["private", "own"])
async def test_a_fetch_waits_for_both(broker, planner, anyone, waiting, which):
    task, private = waiting
    where = private if which == "private" else "planner"
    await asend(anyone, "at last", where)

    said = (await task).artifact

    assert (said.mail_address, len(said.messages)) == (where, 1)
    for mail_address in (private, "planner"):
        await asend(anyone, "next", mail_address)
        left = await ado(anyone, "fetch_messages", mail_address=mail_address, group_name="planner")
        assert bodies(left) == ["next"]
        assert "delivery_count" not in left["messages"][0]


async def test_a_fetch_waits_as_long_as_it_is_told(broker, waiting):
    task, _ = waiting
    began = broker.clock.monotonic_ms()

    said = (await task).artifact

    assert (said.mail_address, said.empty) == ("planner", "no mail waits")
    assert broker.clock.monotonic_ms() - began == 45_000


async def test_a_cancelled_fetch_leases_nothing_of_either(anyone, waiting):
    task, private = waiting
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    for mail_address in (private, "planner"):
        await asend(anyone, "x", mail_address)
        left = await ado(anyone, "fetch_messages", mail_address=mail_address, group_name="planner")
        assert bodies(left) == ["x"]
        assert "delivery_count" not in left["messages"][0]


async def test_what_comes_to_both_at_once_is_not_lost(broker, planner, waiting):
    task, private = waiting
    async with broker.client() as client:
        for mail_address in (private, "planner"):
            await client.send(mail_address, mail_address)

    first = (await task).artifact
    second = await awithin("two", planner, "fetch_messages", **NOW)

    assert {first.mail_address} | {second["mail_address"]} >= {"planner"}
    assert bodies(second) == (["planner"] if first.mail_address == private else [])


async def test_a_private_mailbox_that_ends_during_a_wait_ends_not_the_wait(broker, anyone, waiting):
    task, private = waiting
    async with broker.client() as client:
        await client.mailbox_drop(private)
    await asend(anyone, "unasked")

    assert (await task).artifact.mail_address == "planner"


@pytest.fixture(params=["memory", "file", "server"])
async def url(request, broker, tmp_path, open_hosted):
    """A broker of each kind."""
    if request.param == "memory":
        return broker.url
    if request.param == "file":
        return f"sqlite:///{tmp_path / 'mq9.db'}"
    return (await open_hosted()).server.url


USERS, UNASKED = 50, 40


def next_step(messages):
    """Ask, later fetch and confirm until nothing is left."""
    last = messages[-1]
    if last.type == "human":
        if last.content.startswith("ask "):
            return call("send_message", to="expert", content=last.content[4:])
        return call("fetch_messages", **NOW)
    said = json.loads(last.content)
    if last.name == "fetch_messages" and said["messages"]:
        return call("ack_messages", msg_id=ids(said))
    return call("fetch_messages", **NOW) if last.name == "ack_messages" else AIMessage("Done.")


@pytest.mark.unmeasured
async def test_fifty_users_of_one_agent_see_their_own_answers_alone(url):
    async with (
        Mq9Toolkit(url, agent="desk") as desk,
        Mq9Toolkit(url, agent="expert") as expert,
    ):
        model = ScriptedModel(*[next_step] * 10_000)
        app = create_agent(model, desk.get_tools(), checkpointer=InMemorySaver())

        async def tell(user, text):
            return await app.ainvoke({"messages": [("human", text)]}, run_in(f"user-{user}"))

        await ado(expert, "agent_discover")
        await asyncio.gather(*(tell(user, f"ask {user}") for user in range(USERS)))
        questions = await ado(expert, "fetch_messages", limit=100, **NOW)
        for question in questions["messages"]:
            back = question["untrusted_envelope"]["reply_to"]
            await asend(expert, question["untrusted_content"], back)
        for number in range(UNASKED):
            await asend(expert, f"unasked {number}", "desk")

        states = await asyncio.gather(*(tell(user, "go on") for user in range(USERS)))

    taken = Counter()
    for user, state in enumerate(states):
        said = [
            json.loads(one.content) for one in state["messages"] if one.name == "fetch_messages"
        ]
        got = [body for one in said for body in bodies(one)]
        assert [body for body in got if "unasked" not in body] == [str(user)]
        taken.update(body for body in got if "unasked" in body)
    assert taken == {f"unasked {number}": 1 for number in range(UNASKED)}
