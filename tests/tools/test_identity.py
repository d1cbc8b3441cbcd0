"""Who the tools act as, and whose mail they may read."""

import pytest

from mq9 import address

from .examples import arguments_at
from .tool_calls import ado, answer, bodies, do, fail, fetch, send

pytestmark = pytest.mark.unmeasured


def is_refused(toolkit, mail_address):
    """Whether every tool that uses the mailbox, other than to send there, is refused, or none."""
    said = [
        answer(toolkit, name, **arguments).content
        for name, arguments in arguments_at(mail_address).items()
    ]
    refused = {"This is not allowed to you" in one for one in said}
    assert len(refused) == 1, said
    return refused.pop()


def test_the_mailbox_is_the_slug_of_the_name_and_made_on_first_use(open_toolkit, anyone):
    toolkit = open_toolkit("Claude-Desktop")
    assert do(toolkit, "agent_discover")["agents"] == []

    send(anyone, "hello", "claude.desktop")

    assert fetch(toolkit)["mail_address"] == "claude.desktop"


@pytest.mark.parametrize(
    "name", ["fetch_messages", "query_messages", "agent_discover", "create_mailbox"]
)
def test_whatever_is_called_first_makes_the_mailbox(planner, anyone, name):
    arguments = {"wait_seconds": 0} if name == "fetch_messages" else {}
    do(planner, name, **arguments)

    assert send(anyone, "x")["msg_id"] == 0


def test_the_agents_mailbox_and_group_are_the_defaults(planner, anyone):
    do(planner, "agent_register", name="planner", capabilities="Plans")
    send(anyone, "x")

    assert bodies(do(planner, "query_messages")) == ["x"]
    assert fetch(planner)["mail_address"] == "planner"
    assert do(planner, "ack_messages", msg_id=0) == {"mail_address": "planner", "acked": [0]}
    assert fetch(planner)["empty"] == "no mail waits"
    assert fetch(anyone, mail_address="planner", group_name="planner")["empty"] == "no mail waits"


def test_answers_go_elsewhere_when_the_agent_says_so(planner, worker):
    private = do(planner, "create_mailbox")["mail_address"]

    send(planner, "x", "worker", reply_to=private)

    assert fetch(worker)["messages"][0]["untrusted_envelope"]["reply_to"] == private


@pytest.mark.parametrize("argument", ["sender", "from"])
def test_the_sender_cannot_be_said(planner, argument):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        answer(planner, "send_message", to="planner", content="x", **{argument: "boss"})


def test_an_agent_need_not_say_its_name(planner, anyone):
    assert do(planner, "agent_register", capabilities="Plans")["name"] == "planner"
    assert fail(anyone, "agent_register", capabilities="x").startswith("name: say who you are.")


def test_an_agent_registers_only_under_its_own_name(planner, anyone):
    said = fail(planner, "agent_register", name="worker", capabilities="Everything")

    assert said.startswith("name: you are planner, not 'worker'; leave it out.")
    assert do(anyone, "agent_discover")["agents"] == []


def test_an_agent_reads_its_own_mailbox(planner):
    send(planner, "x")
    send(planner, "y")
    fetch(planner)

    assert not is_refused(planner, "planner")
    assert not is_refused(planner, "mq9://host/planner")


@pytest.mark.parametrize("others", ["worker", "planner.2", "mq9://planner/worker"])
def test_an_agent_reads_nobody_elses_mailbox(planner, anyone, others):
    there = address.parse(others)
    do(anyone, "create_mailbox", name=there)
    send(anyone, "secret", there)

    assert is_refused(planner, others)
    assert bodies(fetch(anyone, mail_address=there)) == ["secret"]
    assert do(anyone, "agent_discover")["agents"] == []


def test_whether_somebody_elses_mailbox_exists_is_not_told(planner):
    assert is_refused(planner, "no.such.mailbox")


def test_a_refusal_says_what_may_be_read(open_toolkit):
    toolkit = open_toolkit("planner", allow_read=["team.*"])

    assert fail(toolkit, "query_messages", mail_address="worker") == (
        "mail_address: planner may read its own mailbox planner, team.* and what it made, not "
        "worker. This is not allowed to you; go on without it or tell the user."
    )


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        (["team.*"], ["team.a", "team.a.b"], ["team", "teams.a", "myteam.a"]),
        (["team.?", "board"], ["team.a", "board"], ["team.ab", "boards"]),
        (["*"], ["anything", "at.all"], []),
        ([], [], ["anything"]),
    ],
)
def test_allow_read_names_further_mailboxes(open_toolkit, anyone, patterns, allowed, refused):
    toolkit = open_toolkit("planner", allow_read=patterns)
    for mail_address in allowed:
        do(anyone, "create_mailbox", name=mail_address)
        send(anyone, "x", mail_address)
        assert not is_refused(toolkit, mail_address)
    assert all(is_refused(toolkit, mail_address) for mail_address in refused)


def test_the_group_in_somebody_elses_mailbox_is_the_agents_own(open_toolkit, anyone):
    do(anyone, "create_mailbox", name="board")
    do(anyone, "send_message", to="board", content="notice")

    for agent in ("planner", "worker"):
        assert bodies(fetch(open_toolkit(agent, allow_read=["board"]), mail_address="board")) == [
            "notice"
        ]


@pytest.mark.parametrize("name", [None, "scratch"])
def test_an_agent_reads_the_mailboxes_that_it_made_also_after_a_restart(open_toolkit, worker, name):
    before, again = open_toolkit("planner"), open_toolkit("planner")
    made = do(before, "create_mailbox", name=name)["mail_address"]
    send(worker, "an answer", made)
    before.close()

    assert bodies(fetch(again, mail_address=made)) == ["an answer"]
    assert do(again, "ack_messages", mail_address=made, msg_id=0)["acked"] == [0]
    assert is_refused(worker, made)
    assert is_refused(again, made.replace("planner", "worker")) == (name is None)


def test_a_mailbox_that_was_there_already_is_not_made(planner, anyone):
    do(anyone, "create_mailbox", name="worker")

    fail(planner, "create_mailbox", name="worker")

    assert is_refused(planner, "worker")


def test_registering_at_a_made_mailbox_leaves_it_the_agents(open_toolkit):
    before, again = open_toolkit("planner"), open_toolkit("planner")
    do(before, "create_mailbox", name="scratch")
    do(before, "agent_register", name="planner", capabilities="x", mail_address="scratch")

    assert fetch(again, mail_address="scratch")["empty"] == "no mail waits"


def test_a_mailbox_that_tools_of_no_agent_made_is_no_agents(anyone, planner):
    do(anyone, "create_mailbox", name="scratch")

    assert is_refused(planner, "scratch")


def test_an_agent_with_the_longest_name_makes_mailboxes_too(open_toolkit):
    toolkit = open_toolkit("n" * 128)

    made = do(toolkit, "create_mailbox")["mail_address"]

    assert fetch(toolkit, mail_address=made)["empty"] == "no mail waits"


async def test_an_agents_mailbox_that_was_dropped_is_made_again(broker, planner):
    await ado(planner, "agent_discover")
    async with broker.client() as client:
        await client.mailbox_drop("planner")
    first = await planner.get_tools()[6].ainvoke({})
    assert first.startswith("mailbox not found: planner does not exist")

    assert (await ado(planner, "query_messages"))["messages"] == []


def test_tools_of_no_agent_ask_which_mailbox(anyone):
    for name in ("fetch_messages", "query_messages"):
        said = fail(anyone, name)
        assert said.startswith("mail_address: say which mailbox")
        assert said.endswith("Correct that argument and call again.")


def test_tools_of_no_agent_read_every_mailbox_and_send_as_nobody(anyone, planner):
    do(planner, "create_mailbox", name="desk")

    send(anyone, "x", "desk")

    [message] = fetch(anyone, mail_address="desk")["messages"]
    assert "untrusted_envelope" not in message
    assert not is_refused(anyone, "desk")


def test_an_agent_may_be_limited_in_where_it_sends(open_toolkit, anyone):
    for name in ("team.one", "boss"):
        do(anyone, "create_mailbox", name=name)
    limited = open_toolkit("limited", allow_send=["team.*"])
    own = do(limited, "create_mailbox")["mail_address"]

    for allowed in ("team.one", "limited", own, "mq9://any.broker/team.one"):
        send(limited, "x", allowed)
    for refused in ("boss", "mq9://any.broker/boss", "nobody"):
        told = fail(limited, "send_message", to=refused, content="x")
        assert told.startswith("to: limited may send to team.*, and what it may read")
    assert bodies(fetch(anyone, mail_address="boss")) == []


def test_an_agent_that_is_limited_has_no_answers_sent_elsewhere(open_toolkit, anyone):
    do(anyone, "create_mailbox", name="team.one")
    limited = open_toolkit("limited", allow_send=["team.*"])

    told = fail(limited, "send_message", to="team.one", content="x", reply_to="boss")

    assert told.startswith("reply_to: limited may send to team.*")
    assert bodies(fetch(anyone, mail_address="team.one")) == []


def test_a_deletion_may_be_confirmed_by_the_address_once_more(planner):
    send(planner, "x")

    told = fail(
        planner, "delete_message", mail_address="planner", msg_id=0, confirm_address="worker"
    )

    assert told.startswith("confirm_address: 'worker' is not planner")
    do(
        planner,
        "delete_message",
        mail_address="planner",
        msg_id=0,
        confirm_address="mq9://a/planner",
    )
