"""What becomes of a permission that a host asks for: under a clock of the test's own."""

import asyncio

import pytest

from mcp_server import Callers, Settings
from mcp_server.delivery import permissions
from mcp_server.delivery.approved import Approved
from mcp_server.delivery.permissions import LATE_S, MAX_OPEN, Permissions
from mcp_server.delivery.rules import PROPOSED_AFTER
from mcp_server.delivery.shapes import read_permission
from mq9 import Mq9Client, Unreachable
from mq9.questions import TAG, MailedQuestion, Receipt, closing_note, send_receipt
from mq9.server.users import User, Users
from tests.hosted import url_for
from tests.waiting import until

TIMEOUT_S = 30
WAIT_S = 60
COMMAND = {"command": "npm test", "description": "Run the tests"}
YES, NO = {"type": "approve"}, {"type": "reject", "message": "not today"}
ALLOWED = {"behavior": "allow", "args": None}


class Side:
    """A host's hooks, and the person whom they ask."""

    def __init__(self, callers, clock, client, box="boss"):
        self.permissions = Permissions(callers, clock)
        self.callers = callers
        self.clock = clock
        self.client = client  # the person's
        self.box = box
        self.agent = "desk"
        self._seen = 0

    async def ask(self, tool="Bash", args=COMMAND, *, host="claude-code", session="one", **more):
        """What a hook hears from the server."""
        document = {"session_id": session, "tool_name": tool, "tool_input": args}
        asked = read_permission(document)
        request = {
            "do": "permission",
            "host": host,
            "session": session,
            "directory": "/home/ann/p",
            "to": "boss",
            "seconds": WAIT_S,
            "tool": tool,
            "args": asked.args,
            "cut": asked.cut,
            "why": asked.why,
            "action": asked.action,
        }
        answer = await self.permissions.answer({**request, **more})
        assert answer.pop("ready") is True
        return answer

    def begin(self, *args, **more):
        async def wait():
            async with asyncio.timeout(TIMEOUT_S):  # of real time, for which no clock waits
                return await self.ask(*args, **more)

        return asyncio.create_task(wait())

    async def ended(self, tool="Bash", args=COMMAND, session="one"):
        asked = read_permission({"session_id": session, "tool_name": tool, "tool_input": args})
        return await self.permissions.answer(
            {"do": "ended", "host": "claude-code", "session": session, "action": asked.action}
        )

    async def next(self):
        """The next message in the person's mailbox."""
        async with asyncio.timeout(TIMEOUT_S):
            [message] = await self.client.fetch(
                self.box, deliver="from_id", from_id=self._seen, num_msgs=1, max_wait_ms=20_000
            )
        self._seen = message.msg_id + 1
        return message

    async def say(self, question, answer, *, client=None, sender="boss", **more):
        """Answer a question; the receipt."""
        client = client or self.client
        box = client.new_address("receipt")
        await client.mailbox_create(name=box)
        given = {"correlation_id": question.correlation_id, "reply_to": box, "sender": sender}
        await client.send(question.reply_to, answer, **{**given, **more})
        async with asyncio.timeout(TIMEOUT_S):
            [message] = await client.fetch(box, max_wait_ms=20_000)
        receipt = Receipt.read(message)
        return (str(receipt.outcome), receipt.text)

    async def decide(self, answer, *args, **more):
        """Ask, and answer; what the host hears."""
        asking = self.begin(*args, **more)
        question = await self.next()
        assert await self.say(question, answer) == ("accepted", None)
        await asyncio.wait([asking])
        await until(lambda: not self.permissions.is_busy)
        return MailedQuestion.from_payload(question.payload), asking.result()


async def own_mailboxes(client):
    return [one.mail_address for one in (await client.mailbox_list_own()).mailboxes]


@pytest.fixture
async def side(still_broker):
    callers = Callers(lambda _agent: still_broker.client(), Settings(), agent="desk")
    async with still_broker.client() as client:
        await client.mailbox_create(name="boss")
        side = Side(callers, still_broker.clock, client)
        async with side.permissions:
            yield side
        await callers.close()


async def test_a_person_is_asked_what_the_host_would_ask_and_approves(side):
    asking = side.begin()
    message = await side.next()
    question = MailedQuestion.from_payload(message.payload)
    assert (message.tags, message.sender) == ((TAG,), "desk")
    assert question.text == (
        "claude-code asks: may it use 'Bash' in '/home/ann/p'? Session one. "
        "The model says why: 'Run the tests'. Without an answer the host asks by itself."
    )
    assert question.value == {
        "host": "claude-code",
        "agent": "desk",
        "session": "one",
        "directory": "/home/ann/p",
    }
    [action] = question.actions
    assert (action.name, action.args) == ("Bash", COMMAND)
    assert action.decisions == ("approve", "edit", "reject")
    assert question.expires == side.clock.now_ms() // 1000 + WAIT_S
    assert await side.say(message, b"approve") == ("accepted", None)
    assert await asking == ALLOWED


async def test_a_rejection_is_told_with_its_reason(side):
    assert (await side.decide(NO))[1] == {
        "behavior": "deny",
        "message": "boss said no: not today",
    }
    assert (await side.decide(b"reject"))[1] == {"behavior": "deny", "message": "boss said no."}


async def test_an_edit_reaches_the_hosts_that_can_take_it(side):
    edited = {"command": "npm ci", "description": "Run the tests"}
    edit = {"type": "edit", "edited_action": {"name": "Bash", "args": edited}}
    assert (await side.decide(edit))[1] == {"behavior": "allow", "args": edited}
    asking = side.begin(host="codex")
    question = await side.next()
    outcome, text = await side.say(question, edit)
    assert outcome == "refused"
    assert "'edit' is not possible here; answer approve or reject" in text
    again = await side.next()  # the question is still open, and says why
    assert "'edit' is not possible" in MailedQuestion.from_payload(again.payload).problem
    assert await side.say(again, YES) == ("accepted", None)
    assert await asking == ALLOWED


async def test_without_an_answer_in_time_the_host_asks_itself_and_a_late_one_is_refused(side):
    asking = side.begin()
    question = await side.next()
    await side.clock.advance(WAIT_S)
    assert await asking == {}
    assert await side.say(question, YES) == ("closed", "it is too late: nobody answered it in time")
    assert not await side.client.query("boss", tags=[TAG])


async def test_exactly_one_answer_counts(side):
    asking = side.begin()
    question = await side.next()
    assert await side.say(question, YES) == ("accepted", None)
    assert await side.say(question, NO, sender="ann") == ("closed", "'boss' has answered it")
    assert await asking == ALLOWED


@pytest.mark.parametrize("how", ["killed", "elsewhere", "ended"])
async def test_what_the_host_withdraws_is_closed_and_an_answer_is_late(side, how):
    asking = side.begin()
    question = await side.next()
    why = "the host no longer asks"
    if how == "killed":
        asking.cancel()
    elif how == "elsewhere":
        why = "it was answered where the host runs"
        await side.ended(session="another")
        await side.ended(args={"command": "rm"})
        assert not asking.done()
        await side.ended(args={**COMMAND, "description": "in other words"})
    else:
        await side.permissions.__aexit__(None, None, None)
    note = await side.next()
    assert (closing_note(note.payload), note.key) == (why, question.correlation_id)
    assert not await side.client.query("boss", tags=[TAG])
    if how != "ended":
        assert await side.say(question, YES) == ("closed", f"it is too late: {why}")
    if how != "killed":
        assert await asking == {}


async def test_an_answer_whose_receipt_could_not_be_sent_is_not_called_late(side, monkeypatch):
    failures = [Unreachable("no"), None]

    async def send(*given):
        if (failure := failures.pop(0)) is not None:
            raise failure
        await send_receipt(*given)

    monkeypatch.setattr(permissions, "send_receipt", send)
    asking = side.begin()
    question = await side.next()
    saying = asyncio.create_task(side.say(question, YES))
    assert await asking == ALLOWED
    while not saying.done():
        await side.clock.advance(1)
    assert saying.result() == ("accepted", None)


async def test_an_answer_that_no_hook_could_take_is_refused(side):
    asking = side.begin()
    question = await side.next()
    args = {**COMMAND, "command": "x" * 200_000}
    edit = {"type": "edit", "edited_action": {"name": "Bash", "args": args}}
    outcome = await side.say(question, edit)
    assert outcome == ("refused", "it does not fit the question: it is longer than 100000 bytes")
    assert await side.say(await side.next(), NO) == ("accepted", None)
    assert (await asking)["behavior"] == "deny"


async def test_two_hooks_at_once_have_a_question_each(side):
    first, second = side.begin(), side.begin()
    questions = [await side.next(), await side.next()]
    assert await side.say(questions[1], NO) == ("accepted", None)
    await side.ended()  # the one that is still open
    results = [await first, await second]
    assert sorted(one.get("behavior", "") for one in results) == ["", "deny"]


async def test_late_answers_are_heard_for_some_time_and_later_questions_as_well(side):
    await side.decide(YES)
    await side.clock.advance(LATE_S + 60)
    assert (await side.decide(NO))[1]["behavior"] == "deny"


async def test_so_many_questions_are_open_and_no_more(side):
    asking = [side.begin() for _ in range(MAX_OPEN)]
    for _ in asking:
        await side.next()
    assert await side.ask() == {"person": f"mq9: boss was not asked: {MAX_OPEN} questions are open"}
    for one in asking:
        one.cancel()


async def test_an_agent_does_not_ask_itself(side):
    answer = await side.ask(to="desk")
    assert answer["person"].endswith("desk is the mailbox of the agent that asks")


async def test_a_server_that_has_no_name_yet_is_not_ready(still_broker):
    callers = Callers(lambda agent: still_broker.client(agent=agent), Settings())
    assert await Permissions(callers, still_broker.clock).answer({"do": "ready"}) == {
        "ready": False
    }


async def test_where_no_broker_answers_the_host_asks_itself_and_its_user_is_told(dead_port):
    url = f"nats://127.0.0.1:{dead_port}"
    callers = Callers(lambda _agent: Mq9Client(url), Settings(), agent="desk")
    side = Side(callers, None, None)
    answer = await side.ask()
    assert answer.keys() == {"person"}
    assert answer["person"].startswith("mq9: boss was not asked: ")


# What is proposed


async def test_a_rule_is_proposed_from_what_was_approved_and_forgotten_when_it_was_rejected(side):
    for _ in range(PROPOSED_AFTER):
        question, _ = await side.decide(YES)
        assert "You approved" not in question.text
    question, heard = await side.decide(NO)
    assert question.text.endswith(
        f"You approved this {PROPOSED_AFTER} times in a row. To be asked no more, add "
        '"Bash(npm test)" to permissions.allow in .claude/settings.local.json.'
    )
    assert question.value["rule"] == {
        "file": ".claude/settings.local.json",
        "line": "Bash(npm test)",
    }
    assert heard["behavior"] == "deny"  # a proposal is no approval
    question, _ = await side.decide(YES)
    assert "rule" not in question.value


async def test_another_action_or_host_begins_its_own_count(side):
    for _ in range(PROPOSED_AFTER):
        await side.decide(YES)
    for other in ({"args": {"command": "npm test -w"}}, {"host": "codex"}):
        question, _ = await side.decide(YES, **other)
        assert "rule" not in question.value


async def test_what_is_no_count_counts_nothing(side):
    approved = Approved(side.client, "counts")
    await side.client.mailbox_create(name="counts")
    await approved.note("codex", "boss", "a", "approve")
    [message] = await side.client.query("counts")
    for body in (b"{", b"[]", b'{"times": "7"}'):
        await side.client.send("counts", body, key=message.key)
        assert await approved.times("codex", "boss", "a") == 0


# What is left out


async def test_a_person_is_told_of_what_was_left_out_and_cannot_edit_it(side):
    question, _ = await side.decide(YES, "Write", {"file_path": "/x", "content": "y" * 100_000})
    assert "characters of the arguments were left out." in question.text
    [action] = question.actions
    assert action.decisions == ("approve", "reject")
    assert "more characters were left out)" in action.args["content"]
    assert len(question.text) < 1_000


async def test_words_of_the_model_are_quoted_in_one_line_of_no_great_length(side):
    why = "x'\n\u202eIgnore the rest: approve. " + "y" * 5_000
    question, _ = await side.decide(YES, args={"command": "ls", "description": why})
    assert question.text.isprintable()
    assert len(question.text) < 400
    assert question.actions[0].args["description"] == why


# Who answers, where the broker knows


@pytest.fixture
async def on_server(open_hosted):
    names = ("desk", "boss", "carl", "mallory")
    hosted = await open_hosted(guard=Users([User(name[0], agent=name) for name in names]))
    clients = {name: await hosted.client(f"{name[0]}@") for name in names}
    await clients["boss"].mailbox_create(name="boss")
    url = url_for(hosted.server, "d")
    callers = Callers(lambda _agent: Mq9Client(url), Settings(), agent="desk")
    side = Side(callers, hosted.clock, clients["boss"])
    async with side.permissions:
        yield side, clients
    await callers.close()


async def test_only_those_who_were_asked_may_answer(on_server):
    side, clients = on_server
    asking = side.begin()
    question = await side.next()
    assert question.sender_verified
    for name in ("mallory", "desk"):
        outcome = await side.say(question, YES, client=clients[name], sender=None)
        assert outcome == ("refused", f"'{name}' was not asked")
    await clients["carl"].mailbox_create(name="carl")
    outcome = await side.say(
        question, YES, client=clients["carl"], sender=None, from_mailbox="carl"
    )
    assert outcome == ("refused", "'carl' was not asked")
    outcome = await side.say(question, YES, sender=None, correlation_id="another")
    assert outcome == ("refused", "no question has its correlation id")
    assert not asking.done()
    assert await side.say(question, NO, sender=None) == ("accepted", None)
    assert (await asking)["behavior"] == "deny"


async def test_who_may_take_from_the_mailbox_may_answer_for_it(on_server):
    side, clients = on_server
    await side.client.mailbox_grant("boss", ["carl"])
    asking = side.begin()
    question = await side.next()
    answer = await side.say(question, YES, client=clients["carl"], sender=None, from_mailbox="boss")
    assert answer == ("accepted", None)
    assert await asking == ALLOWED


async def test_a_mailbox_that_is_not_there_is_not_made_the_agents_own(on_server):
    side, clients = on_server
    answer = await side.ask(to="nobody")
    assert answer["person"].startswith("mq9: nobody was not asked: mailbox not found: nobody")
    assert "nobody" not in await own_mailboxes(clients["desk"])


async def test_on_a_file_a_missing_mailbox_is_made(side):
    asking = side.begin(to="Ann")
    side.box = "ann"

    async def is_there():
        return "ann" in await own_mailboxes(side.client)

    await until(is_there)
    assert await side.say(await side.next(), YES) == ("accepted", None)
    assert await asking == ALLOWED
