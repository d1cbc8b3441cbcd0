"""Hosts and frameworks of others, with a model that goes through a script."""

from dataclasses import replace
from itertools import zip_longest

import pytest

from mcp_server.hosts.delivery import APPROVALS
from tests.hosts.frameworks import FRAMEWORKS
from tests.hosts.posting import address_of, post
from tests.hosts.programs import PROGRAMS, Home
from tests.hosts.scripted_model import ScriptedModel
from tests.mcpserver.programs import MQ9_MCP, McpServing
from tests.mcpserver.steps import STEPS, UNCONFIRMED

pytestmark = [pytest.mark.hosts, pytest.mark.programs, pytest.mark.timeout(900)]

TOOLS = sorted({tool for tool, _ in STEPS})
_NEXT = dict(zip(PROGRAMS, [*PROGRAMS[1:], PROGRAMS[0]], strict=True))


def named(program):
    return program.name


@pytest.fixture(params=PROGRAMS, ids=named)
def program(request):
    request.param.need()
    return request.param


@pytest.fixture(params=FRAMEWORKS, ids=named)
def framework(request):
    request.param.need()
    return request.param


@pytest.fixture
def server(tmp_path):
    """The options of the server where it is not installed."""
    return "--agent", "served", "--server", f"sqlite:///{tmp_path / 'mail.db'}"


@pytest.fixture
def serving(tmp_path, server):
    with McpServing(tmp_path, *server) as one:
        yield one


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "home"
    directory.mkdir()
    with ScriptedModel() as model:
        yield Home(directory, model)


def tried(measured, seen, *, declines=False):
    """Keep what was seen for the table, and see that it is all that it should be."""
    offered = [tool for tool in TOOLS if any(name.endswith(tool) for name in seen.offered)]
    expected = [leads_to_data] * len(STEPS)
    expected[UNCONFIRMED] = wants_confirmation
    if declines:
        expected[UNCONFIRMED] = expected[UNCONFIRMED + 1] = is_declined
    pairs = zip(expected, seen.told, seen.data, strict=False)
    answered = [is_so(told, data) for is_so, told, data in pairs]
    measured |= {"offered": len(offered), "answered": sum(answered), "seconds": seen.seconds}
    assert (seen.errors, seen.outside) == ([], set())
    assert offered == TOOLS, seen.offered
    assert seen.stuck is None
    wrong = {STEPS[number][0] for number, is_so in enumerate(answered) if not is_so}
    assert wrong == set(), seen.told
    assert len(answered) == len(STEPS)


def leads_to_data(_told, data):
    return data is not None


def wants_confirmation(told, _data):
    return "confirm_address=" in told


def is_declined(told, _data):
    return "The user said no" in told


def test_a_host_has_the_tools_in_its_first_prompt_and_calls_them(home, program, measure):
    home.set_up(program)
    home.install(program)
    seen = home.run(program, STEPS)

    tried(measure(program, "stdio"), seen, declines=program.declines)
    assert seen.data[0]["name"] == program.name


def test_a_host_does_the_same_over_http(home, program, serving, measure):
    home.set_up(program)
    home.add_http(program, serving.url)
    seen = home.run(program, STEPS)

    tried(measure(program, "http"), seen, declines=program.declines)
    assert seen.data[0]["name"] == "served"


@pytest.mark.parametrize("is_approved", [False, True], ids=["unasked", "approved"])
def test_which_tools_a_host_runs_without_its_user(home, program, is_approved, measure, tmp_path):
    if is_approved and program.name not in APPROVALS:
        pytest.skip(f"{program.title} has no setting for that")
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    own = address_of(program)

    def send(_said):
        post(url, program, "How many are home?")
        return {}

    steps = [  # none of them needs what another said, which may be refused
        ("mq9_whoami", lambda _said: {}),
        ("mq9_fetch_messages", send),
        ("mq9_ack_messages", lambda _said: {"msg_id": 0}),
        ("mq9_query_messages", lambda _said: {}),
        ("mq9_agent_register", lambda _said: {"capabilities": "Counts bees."}),
        ("mq9_agent_discover", lambda _said: {"query": "somebody who counts bees"}),
        ("mq9_create_mailbox", lambda _said: {"ttl": 600}),
        ("mq9_send_message", lambda _said: {"to": own, "content": "All are home."}),
        (
            "mq9_delete_message",
            lambda _said: {"mail_address": own, "msg_id": 1, "confirm_address": own},
        ),
        ("mq9_agent_unregister", lambda _said: {}),
    ]
    home.set_up(program)
    home.install(program, "--server", url, *(["--approve"] if is_approved else []))
    seen = home.run(replace(program, words=program.asking_words or program.words), steps)
    assert (seen.errors, seen.outside) == ([], set())
    answers = zip_longest(
        steps, seen.told, seen.data
    )  # of a tool that is not offered there is none
    refused = [
        tool.removeprefix("mq9_")
        for (tool, _), told, data in answers
        if data is None and not (told and (is_declined(told, data) or "message not found" in told))
    ]
    assert seen.stuck is None or len(refused) == len(steps)
    if is_approved:
        assert refused == []
    else:
        measure(program, "unasked")["refused"] = refused


def test_a_framework_has_the_tools_in_its_first_prompt_and_calls_them(
    home, framework, server, measure
):
    command = (str(MQ9_MCP), *server)
    seen = framework.run(home.directory, home.model, STEPS, "stdio", *command)

    tried(measure(framework, "stdio"), seen)


def test_a_framework_does_the_same_over_http(home, framework, serving, measure):
    seen = framework.run(home.directory, home.model, STEPS, "http", serving.url)

    tried(measure(framework, "http"), seen)


def test_two_hosts_of_one_user_write_to_each_other(home, program, measure):
    other = _NEXT[program]
    other.need()
    capabilities = f"Knows what {other.name} knows."
    question, answer = f"What do you know, {other.name}?", f"A lot, {program.name}."
    tell = [("mq9_agent_register", lambda _said: {"capabilities": capabilities})]
    ask = [
        ("mq9_agent_discover", lambda _said: {"query": capabilities}),
        (
            "mq9_send_message",
            lambda said: {
                "to": said["mq9_agent_discover"]["agents"][0]["mail_address"],
                "content": question,
            },
        ),
    ]
    reply = [
        ("mq9_fetch_messages", lambda _said: {}),
        (
            "mq9_send_message",
            lambda said: {
                "to": received(said)["untrusted_envelope"]["reply_to"],
                "content": answer,
            },
        ),
        ("mq9_ack_messages", lambda said: {"msg_id": received(said)["msg_id"]}),
    ]
    look = [
        ("mq9_fetch_messages", lambda _said: {}),
        ("mq9_ack_messages", lambda said: {"msg_id": received(said)["msg_id"]}),
    ]

    for one in (program, other):
        home.set_up(one)
        home.install(one)
    all_done(home.run(other, tell), tell)
    all_done(home.run(program, ask), ask)
    asked = all_done(home.run(other, reply), reply)
    answered = all_done(home.run(program, look), look)
    assert mail(asked) == (program.name, question)
    assert mail(answered) == (other.name, answer)

    measure(program, "mail")["with"] = other.name


def received(said):
    """The one message that was fetched."""
    [message] = said["mq9_fetch_messages"]["messages"]
    return message


def all_done(seen, steps):
    """See that every step led to something; what the model saw."""
    assert (seen.stuck, seen.errors, seen.outside) == (None, [], set())
    assert len(seen.data) == len(steps)
    assert None not in seen.data, seen.told
    return seen


def mail(seen):
    message = received({"mq9_fetch_messages": seen.data[0]})
    return message["untrusted_envelope"]["from"], message["untrusted_content"]
