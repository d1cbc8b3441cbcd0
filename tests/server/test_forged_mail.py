"""Where senders are limited, no way of the protocol leads into an agent's own mailboxes."""

import itertools

import orjson
import pytest
from raw import publish
from users_file import write_users

from mq9 import Forbidden, InvalidRequest
from mq9.server.users import User, Users

USERS = [
    User("lawyers", agent="Lawyer"),
    User("mallorys", agent="Mallory"),
    User("clerks", agent="Clerk", allow_send=("lawyer", "team.*")),
    User("operators"),
]
OWN = ("lawyer.questions", "lawyer.turns.7", "lawyer.dead", "lawyer.timers", "lawyer.answers.x")
MALLORY, CLERK = {"auth_token": "mallorys"}, {"auth_token": "clerks"}
ROOT = "$mq9.AI."
# How a message is sent, in each of the three generations.
SENDS = ("MSG.SEND.{}", "MAILBOX.MSG.{}", "MAILBOX.MSG.{}.urgent", "INBOX.{}", "INBOX.{}.normal")
HEADERS = (
    (),
    (("mq9-from", "Lawyer"),),
    (("mq9-delay", "5"),),
    (("mq9-id", "i"),),
    (("mq9-key", "k"),),
    (("mq9-from-mailbox", "lawyer"),),
)


@pytest.fixture
async def hosted(open_hosted):
    return await open_hosted(guard=Users(USERS))


@pytest.fixture
async def lawyer(hosted):
    client = await hosted.client("lawyers@")
    await client.mailbox_create(name="lawyer")
    return client


@pytest.fixture
async def closed(lawyer):
    """The agent's own mailboxes, which nobody else may send to."""
    for address in OWN:
        await lawyer.mailbox_create(name=address, send_policy="creator")
    return OWN


async def ask(client, verb, payload=b"", headers=()):
    return orjson.loads(await client.ask(ROOT + verb, payload, headers))


async def test_mail_cannot_be_forged_in_any_generation(hosted, lawyer, closed):
    mallory = await hosted.raw(**MALLORY)

    for address, verb, headers in itertools.product(closed, SENDS, HEADERS):
        reply = await ask(mallory, verb.format(address), b'{"forged": true}', headers)
        assert reply["code"] == "forbidden", (address, verb, headers)
        mallory.send(publish(ROOT + verb.format(address), b"unanswered", headers=headers))

    await ask(mallory, "AGENT.WHOAMI")  # all that was sent before has been carried out
    for address in closed:
        status = await lawyer.mailbox_status(address)
        assert (status.stored, status.delayed) == (0, 0)


async def test_the_mailboxes_cannot_be_made_first(hosted, lawyer):
    mallory = await hosted.raw(**MALLORY)

    for address in OWN:
        for body in (
            {"name": address},
            {"name": address, "renew": True},
            {"name": address, "public": True},
            {"name": address, "type": "standard"},
            {"prefix": address},
        ):
            reply = await ask(mallory, "MAILBOX.CREATE", orjson.dumps(body))
            assert reply["code"] == "forbidden", body
        for body in ({"name": "x", "mailbox": address}, {"mailbox": address}, {"name": address}):
            reply = await ask(mallory, "AGENT.REGISTER", orjson.dumps(body))
            assert reply["code"] == "forbidden", body
        await lawyer.mailbox_create(name=address)


async def test_a_dead_letter_of_another_is_not_moved_there(hosted, lawyer, closed):
    mallory = await hosted.client("mallorys@")
    await mallory.mailbox_create(name="mine")
    await mallory.send("mine", "forged")
    [message] = await mallory.fetch("mine", group_name="g", deliver="earliest")
    for address in closed:
        with pytest.raises(Forbidden):
            await message.move(address)
        assert await lawyer.query(address) == []


async def test_the_agent_and_an_operator_send_there(hosted, lawyer, closed):
    operator = await hosted.client("operators@")
    for address in closed:
        await lawyer.send(address, "mine")
        await operator.send(address, "helped")
        assert (await lawyer.mailbox_status(address)).stored == 2


async def test_an_agent_with_a_list_sends_nowhere_else_in_any_generation(hosted, lawyer):
    """All else that a list means is in tests/contract/test_allow_lists.py."""
    clerk = await hosted.raw(**CLERK)
    for address in ("team.a", "team", "elsewhere"):
        await lawyer.mailbox_create(name=address)
    for address, verb in itertools.product(("team", "elsewhere"), SENDS):
        reply = await ask(clerk, verb.format(address), b"x")
        assert reply["code"] == "forbidden"
        assert f"you may not send to {address}; the operator's allow_send" in reply["error"]
        assert await lawyer.query(address) == []
    for verb in SENDS:
        assert (await ask(clerk, verb.format("team.a"), b"x"))["error"] == ""


async def test_an_agent_with_a_list_broadcasts_nothing(hosted):
    listener = await hosted.raw(**MALLORY)
    await listener.send_all(f"SUB {ROOT}BROADCAST.> 1\r\nPING\r\n".encode())
    assert await listener.frame() == ("PONG",)
    clerk, mallory = await hosted.raw(**CLERK), await hosted.raw(**MALLORY)
    for client in (clerk, mallory):
        await client.send_all(publish(f"{ROOT}BROADCAST.news", b"x") + b"PING\r\n")

    kind, text = await clerk.frame()
    assert (kind, text.split(",")[0]) == (
        "-ERR",
        f"'Permissions Violation for Publish to \"{ROOT}BROADCAST.news\"'",
    )
    assert await mallory.frame() == ("PONG",)
    listener.send(b"PING\r\n")
    assert [(await listener.frame())[0], await listener.frame()] == ["MSG", ("PONG",)]


USER = '[[users]]\nagent = "a"\ntoken = "{}"\n{}\n'


@pytest.mark.parametrize(
    ("users", "told"),
    [
        (USER.format("t", "allow_send = 3"), r"user 1 in .*: allow_send: 3 is not a list of addr"),
        (USER.format("t", 'allow_send = "lawyer"'), r"allow_send: 'lawyer' is not a list of addr"),
        (USER.format("t", "allow_send = [3]"), r"allow_send: \[3\] is not a list of address patt"),
        (USER.format("t", 'allow_send = ["Lawyer"]'), r"allow_send: 'Lawyer' matches no address"),
        (
            '[[users]]\ntoken = "t"\nallow_send = ["lawyer"]\n',
            "allow_send: it limits where an agent may send",
        ),
        (
            USER.format("t", 'allow_send = ["b"]') + USER.format("u", ""),
            "two users are the agent 'a', and their lists differ",
        ),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path, users, told):
    with pytest.raises(InvalidRequest, match=told):
        Users.from_file(write_users(tmp_path, users))


def test_an_empty_list_lets_an_agent_send_nowhere(tmp_path):
    path = write_users(tmp_path, USER.format("t", "allow_send = []"))
    assert not Users.from_file(path).reserved.may_send("a", "anywhere")
