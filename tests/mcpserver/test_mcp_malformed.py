"""Malformed requests are refused in clear words, and leave nothing."""

import asyncio
import contextlib
import logging
import random

import pytest
from attacks import state
from hosting import ERAS, at_rest
from mcp.shared.exceptions import MCPError
from tools.examples import REQUIRED, VALID, WRONG
from tools.test_bad_input import speaks_of

from mq9.operations.catalog import ALL

CURRENT = ERAS[0]
REFUSED = {-32600, -32601, -32602}  # not an internal error
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")


async def raw(host, method, params):
    """Make a request as it stands, past the checks of a well-behaved client."""
    session = host.client.session
    data, options = {"method": method, "params": params}, {}
    with contextlib.suppress(UnicodeEncodeError):  # for a header, which nobody reads in a process
        session._stamp(data, options)  # noqa: SLF001  # the SDK sends only what it has checked
    dispatcher = session._dispatcher  # noqa: SLF001  # as above
    return await dispatcher.send_raw_request(method, data["params"], options)


async def refusal(host, method, params):
    """Make a request in vain; what is said of it."""
    try:
        result = await raw(host, method, params)
    except MCPError as error:
        return error.error.message if error.error.code in REFUSED else f"code {error.error.code}"
    assert result.get("isError"), (method, params, result)
    assert result.get("structuredContent") is None
    return result["content"][0]["text"]


@pytest.fixture
async def planner(open_host, era, broker):
    """An agent that holds a message, beside another agent's mailbox."""
    host = await open_host("planner", era=era)
    await host.do("agent_register", name="planner", capabilities="Plans")
    async with broker.client() as client:
        await client.mailbox_create(name="worker")
        await client.send("planner", "x", key="k", tags=["a"], sender="worker")
        await client.send("worker", "y")
    await host.do("fetch_messages", wait_seconds=0)
    return host


# What a refusal says of an argument that only some calls need.
SAID_OF_MISSING = {
    ("send_message", "to"): "to: say where to send",
    ("delete_message", "msg_id"): "msg_id: name one message",
}


class Nonsense:
    """Makes up what a confused or hostile client might say."""

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def text(self):
        alphabet = "abc.*>/%\\\"'{}[]<\0\n\x1b\u200b\u202e\ud800\udfff雪🦊é"
        length = self.dice.choice((1, 3, 17, 90, 300, 2_000))
        if self.dice.random() < 0.01:
            return self.dice.choice(alphabet) * 1_000_000
        return "".join(self.dice.choices(alphabet, k=length))

    def value(self, depth=0):
        """A value that is no text."""
        kind = self.dice.randrange(9 if depth < 4 else 6)
        if kind < 6:
            return self.dice.choice(
                [7, -1, 1.5, True, False, 10**400, 2**63, float("nan"), float("-inf")]
            )
        if kind == 6:
            nested = []
            for _ in range(self.dice.randrange(1, 400)):
                nested = [nested] if self.dice.random() < 0.5 else {"a": nested}
            return nested
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.dice.randrange(5))]
        return {str(one): self.value(depth + 1) for one in range(self.dice.randrange(5))}

    def request(self):
        """A request, and a word that its refusal must hold."""
        kinds = (self.call, self.resource, self.prompt, self.completion, self.page, self.other)
        return self.dice.choice(kinds)()

    def call(self):
        tool = self.dice.choice(list(ALL))
        name, argument = self.dice.choice(list(WRONG))
        wrong = self.dice.choice(WRONG[name, argument])
        needed = self.dice.choice([one for one in ALL if REQUIRED[one]])
        missing = self.dice.choice(list(REQUIRED[needed]))
        extra = f"no_such_{self.dice.randrange(1_000)}"
        unknown = self.dice.choice((self.text(), tool, f"mq9_{tool} ", f"MQ9_{tool}", ""))
        no_arguments = self.dice.choice((7, "x", ["a"], True, 1.5))
        name, arguments, said = self.dice.choice(
            (
                (f"mq9_{name}", VALID[name] | {argument: wrong}, speaks_of(name, argument, wrong)),
                (f"mq9_{tool}", VALID[tool] | {extra: self.value()}, f"{extra}: unknown argument"),
                (
                    f"mq9_{needed}",
                    {one: value for one, value in VALID[needed].items() if one != missing},
                    SAID_OF_MISSING.get((needed, missing), f"{missing}: Field required"),
                ),
                (unknown, VALID[tool], "unknown tool"),
                (f"mq9_{tool}", no_arguments, "Invalid request parameters"),
            )
        )
        return "tools/call", {"name": name, "arguments": arguments}, said

    def resource(self):
        made_up = (f"mq9://mailbox/{self.text()}", f"mq9://message/planner/{self.text()}")
        known = ("mq9://agents/", "MQ9://agents", "mq9://message/planner/77")
        if self.dice.random() < 0.2:
            return "resources/read", {"uri": self.value()}, "Invalid request parameters"
        return "resources/read", {"uri": self.dice.choice((self.text(), *made_up, *known))}, ""

    def prompt(self):
        task = {"task": "x"}
        name, arguments, said = self.dice.choice(
            (
                ("delegate_task", {}, "task: "),
                ("delegate_task", task | {f"no_such_{self.text()}": "y"}, "has no such argument"),
                ("delegate_task", task | {"agent": "a\ud800"}, "agent: "),
                ("delegate_task", {"task": "x" * 100_001}, "task: "),
                ("delegate_task", task | {"agent": self.value()}, "Invalid request parameters"),
                ("delegate_task", [], "Invalid request parameters"),
                (self.text(), task, "unknown prompt"),
            )
        )
        return "prompts/get", {"name": name, "arguments": arguments}, said

    def completion(self):
        right = {
            "ref": {"type": "ref/prompt", "name": "delegate_task"},
            "argument": {"name": "agent", "value": "p"},
        }
        wrong = self.dice.choice((self.value(), {}, {"type": self.text()}, {"name": "agent"}))
        changed = {self.dice.choice(list(right)): wrong}
        return "completion/complete", right | changed, "Invalid request parameters"

    def page(self):
        wrong = ((self.text(), "cursor: "), (self.value(), "Invalid request parameters"))
        cursor, said = self.dice.choice(wrong)
        return self.dice.choice(LISTS), {"cursor": cursor}, said

    def other(self):
        # A method of the other protocol is as unknown as one of none.
        listening = ({"notifications": 7}, {"notifications": {"resourceSubscriptions": [7]}}, {})
        return self.dice.choice(
            (
                ("resources/subscribe", {"uri": self.value()}, ""),
                ("resources/subscribe", {"uri": "mq9://mailbox/worker"}, ""),
                ("resources/unsubscribe", {"uri": self.value()}, ""),
                *(("subscriptions/listen", one, "") for one in listening),
                *((one, {"name": "mq9_whoami"}, "Method not found") for one in ("", "tools/call/")),
                (self.text(), {"name": "mq9_whoami"}, "Method not found"),
            )
        )


async def tasks_of(broker):
    await at_rest(broker)
    for _ in range(20):
        await asyncio.sleep(0)
    return sorted(task.get_name() for task in asyncio.all_tasks() if "Task-" not in task.get_name())


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_thousand_malformed_calls_are_refused_and_leave_nothing(
    planner, broker, scale, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    nonsense = Nonsense(7)
    before, tasks = state(broker), await tasks_of(broker)
    many = len(asyncio.all_tasks())

    for number in range(1_000 * scale):
        method, params, said = nonsense.request()
        told = await refusal(planner, method, params)
        assert told, (number, method)
        assert said in told, (number, method, str(params)[:300], told)
        assert len(told) < 2_500, (number, method)

    assert state(broker) == before
    assert await tasks_of(broker) == tasks
    assert len(asyncio.all_tasks()) == many
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert planner.callers.in_work == 0
    # Nothing of it counts as being in work, or as watched.
    monkeypatch.setattr("mcp_server.features.tools.MAX_CALLS", 1)
    monkeypatch.setattr("mcp_server.features.subscriptions.MAX_WATCHED", 1)
    assert (await planner.do("whoami"))["name"] == "planner"
    if planner.client.protocol_version == CURRENT:
        async with planner.client.listen(resource_subscriptions=["mq9://mailbox/planner"]) as one:
            assert one.honored.resource_subscriptions
    else:
        await planner.client.subscribe_resource("mq9://mailbox/planner")
