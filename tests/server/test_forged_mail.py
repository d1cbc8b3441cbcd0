"""Where senders are limited, no way of the protocol leads into an agent's own mailboxes."""

import itertools

import orjson
import pytest
from raw import publish
from users_file import write_users

from mq9 import Forbidden, InvalidRequest, MailboxNotFound
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


class TestAllowLists:
    """An agent whose user has ``allow_send`` sends only where that says."""

    @pytest.fixture
    async def clerk(self, hosted):
        return await hosted.client("clerks@")

    @pytest.fixture(autouse=True)
    async def mailboxes(self, lawyer):
        for name in ("team.a", "team.b.c", "team", "elsewhere"):
            await lawyer.mailbox_create(name=name)

    async def test_it_sends_where_a_pattern_matches(self, clerk):
        for address in ("lawyer", "team.a", "team.b.c"):
            assert await clerk.send(address, "x") == 0

    async def test_it_sends_nowhere_else_in_any_generation(self, hosted, lawyer):
        clerk = await hosted.raw(**CLERK)
        for address, verb in itertools.product(("team", "elsewhere"), SENDS):
            reply = await ask(clerk, verb.format(address), b"x")
            assert reply["code"] == "forbidden"
            assert f"you may not send to {address}; the operator's allow_send" in reply["error"]
            assert await lawyer.query(address) == []

    async def test_it_moves_messages_nowhere_else(self, clerk, lawyer):
        await clerk.mailbox_create(name="clerk")
        await lawyer.send("clerk", "x")
        [message] = await clerk.fetch("clerk", group_name="g", deliver="earliest")
        with pytest.raises(Forbidden):
            await message.move("elsewhere")
        await message.move("team.a")
        [moved] = await lawyer.query("team.a")
        assert moved.moved.by == "Clerk"

    async def test_it_sends_to_its_own_mailboxes_and_those_it_may_take_from(self, clerk, lawyer):
        await clerk.mailbox_create(name="clerk.dead")
        await clerk.send("clerk.dead", "x")
        for lists in ({"viewers": ["Clerk"]}, {"senders": ["Clerk"], "send_policy": "granted"}):
            await lawyer.mailbox_grant("elsewhere", **lists)
            with pytest.raises(Forbidden, match="allow_send"):
                await clerk.send("elsewhere", "x")
        await lawyer.mailbox_grant("elsewhere", ["Clerk"])
        await clerk.send("elsewhere", "x")

    async def test_it_obeys_the_policies_besides(self, clerk, lawyer):
        await lawyer.mailbox_grant("team.a", send_policy="creator")
        with pytest.raises(Forbidden, match="only from its creator"):
            await clerk.send("team.a", "x")

    async def test_it_answers_where_its_list_lets_it_send(self, clerk, lawyer):
        await clerk.mailbox_create(name="clerk")
        for reply_to, code in (("team.a", None), ("elsewhere", "forbidden")):
            await lawyer.send("clerk", "?", reply_to=reply_to)
            question = (await clerk.query("clerk"))[-1]
            if code is None:
                await question.reply("yes")
            else:
                with pytest.raises(Forbidden):
                    await question.reply("yes")

    async def test_what_is_not_there_is_not_found(self, clerk):
        with pytest.raises(MailboxNotFound):
            await clerk.send("nowhere", "x")

    async def test_it_broadcasts_nothing(self, hosted):
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


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("allow_send = 3", r"user 1 in .*: allow_send: 3 is not a list of address patterns"),
        ('allow_send = "lawyer"', r"allow_send: 'lawyer' is not a list of address patterns"),
        ("allow_send = [3]", r"allow_send: \[3\] is not a list of address patterns"),
        ('allow_send = ["Lawyer"]', r"allow_send: 'Lawyer' matches no address"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path, line, told):
    path = write_users(tmp_path, f'[[users]]\nagent = "a"\ntoken = "t"\n{line}\n')
    with pytest.raises(InvalidRequest, match=told):
        Users.from_file(path)


def test_an_operator_has_no_list(tmp_path):
    path = write_users(tmp_path, '[[users]]\ntoken = "t"\nallow_send = ["lawyer"]\n')
    with pytest.raises(InvalidRequest, match="allow_send: it limits where an agent may send"):
        Users.from_file(path)


def test_all_users_of_an_agent_have_the_same_list(tmp_path):
    user = '[[users]]\nagent = "a"\ntoken = "{}"\n{}\n'
    path = write_users(tmp_path, user.format("t", 'allow_send = ["b"]') + user.format("u", ""))
    with pytest.raises(InvalidRequest, match="two users are the agent 'a', and their lists differ"):
        Users.from_file(path)


def test_an_empty_list_lets_an_agent_send_nowhere(tmp_path):
    path = write_users(tmp_path, '[[users]]\nagent = "a"\ntoken = "t"\nallow_send = []\n')
    assert not Users.from_file(path).reserved.may_send("a", "anywhere")
