"""Answers before the SDK is loaded are exactly those of the SDK."""

import asyncio
import contextlib
import json
import os
import threading
from itertools import count

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest, jsonrpc_message_adapter
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from record_answers import answered, recorded, requests, text
from waiting import until

from mcp_server import Callers, Settings, make_server
from mcp_server.startup.answers import ANSWERED_ID, FILE, Answers, EarlyResponder
from mcp_server.startup.begin import StdinReader
from mq9 import Mq9Client
from mq9.operations.listing import NAMES, READ_ONLY

OLDER, CURRENT = "2025-11-25", "2026-07-28"
META = "io.modelcontextprotocol/"
SWITCHES = [
    {},
    {"prefix": ""},
    {"prefix": "THE-NAME-OF-THE-AGENT-"},
    {"read_only": True},
    {"read_only": True, "tools": ["whoami", "mq9_send_message"]},
    {"tools": []},
    {"tools": ["x-whoami", "fetch_messages"], "prefix": "x-"},
    {"allow_read": ["team.*"], "allow_send": [], "lease_ms": 1_000, "max_chars": 100},
    *({"tools": [name]} for name in NAMES),
    *({"tools": [one for one in NAMES if one != name]} for name in NAMES),
    *({"read_only": True, "tools": [one]} for one in sorted(READ_ONLY)),
]
AGENTS = [
    ("desk", None),
    ('Dr. "No" \\ é雪🦊', "no.doctor"),
    ("the.address.of.the.agent", "the.address.of.the.agent"),
]


def first_answers(offered=None, agent="desk", mail_address=None):
    offered = offered or Settings()
    return Answers(offered, offered.identity(agent, mail_address))


async def test_what_is_kept_is_what_the_sdk_answers():
    assert FILE.read_text("utf-8") == text(await recorded()), "run `make generated`"


@pytest.mark.parametrize("version", KNOWN_PROTOCOL_VERSIONS)
@pytest.mark.parametrize(("agent", "mail_address"), AGENTS)
async def test_every_version_is_answered_as_by_the_sdk(version, agent, mail_address):
    answers = first_answers(None, agent, mail_address)
    given_by_sdk = await answered(Settings(), agent, mail_address, version)
    assert given_by_sdk.keys() == {method for method, _ in requests(version)}
    for method, result in given_by_sdk.items():
        assert answers.result(version, method) == result


@pytest.mark.parametrize("version", [OLDER, CURRENT])
@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda one: ",".join(map(str, one.values()))[:80]
)
async def test_all_switches_are_answered_as_by_the_sdk(version, switches):
    offered = Settings(**switches)
    answers = first_answers(offered)
    for method, result in (await answered(offered, "desk", None, version)).items():
        assert answers.result(version, method) == result


@pytest.mark.parametrize("version", [OLDER, CURRENT])
@pytest.mark.parametrize("switches", [{}, {"prefix": "x-"}, {"tools": ["fetch_messages"]}], ids=str)
async def test_while_an_agent_is_not_known_nothing_is_said_of_it(version, switches):
    offered = Settings(**switches)
    answers = Answers(offered, None)
    for method, result in (await answered(offered, None, None, version)).items():
        names_mailbox = method == "resources/list"  # and the host has to be asked for its roots
        assert answers.result(version, method) == (None if names_mailbox else result)


class Sdk:
    """The server of the SDK, spoken to in lines."""

    def __init__(self):
        offered = Settings()
        callers = Callers(lambda _agent: Mq9Client("memory:"), offered, agent="desk")
        self._server = make_server(callers, offered)

    async def _answers(self, lines):
        messages = []
        for line in lines:
            try:
                messages.append(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValidationError:
                continue
        asked = [one.id for one in messages if isinstance(one, JSONRPCRequest)]
        answers = {}
        options = self._server.create_initialization_options()
        asking, reading = anyio.create_memory_object_stream(len(messages))
        writing, hearing = anyio.create_memory_object_stream(len(messages))
        async with anyio.create_task_group() as tasks, asking, hearing:
            tasks.start_soon(self._server.run, reading, writing, options)
            for one in messages:
                await asking.send(SessionMessage(one))
            for _ in asked:
                answer = (await hearing.receive()).message
                answers[answer.id] = answer.model_dump(by_alias=True, exclude_unset=True)
            tasks.cancel_scope.cancel()
        return answers

    def answers(self, *lines):
        return anyio.run(self._answers, lines)


@pytest.fixture(scope="module")
def sdk():
    return Sdk()


def line(method, params=None, number=1, **more):
    content = {"jsonrpc": "2.0", "id": number, "method": method, "params": params, **more}
    return json.dumps({name: one for name, one in content.items() if one is not None}) + "\n"


def agrees(sdk, *lines):
    first = EarlyResponder(first_answers())
    heard = [(one, *first.respond(one)) for one in lines]
    by_sdk = sdk.answers(*lines)
    for said, answer, told in heard:
        if answer is None:
            assert told == said
        else:
            assert answer.endswith(b"\n")
            assert json.loads(answer) == by_sdk[json.loads(said)["id"]], said
    return [answer is not None for _, answer, _ in heard]


# As hosts say it.
ABOUT = {"name": "test", "version": "1.0"}
CAPABILITIES = [
    {},
    {"roots": {"listChanged": True}},
    {"roots": {}, "sampling": {}, "elicitation": {}},
    {"elicitation": {"form": {"applyDefaults": True}, "url": {}}, "sampling": {"tools": {}}},
    {
        "experimental": {"x": {"y": [1, 2]}},
        "extensions": {f"{META}ui": {"mimeTypes": ["text/html"]}},
    },
    {"tasks": {"list": {}, "cancel": {}, "requests": {"elicitation": {"create": {}}}}},
]
CLIENTS = [
    ABOUT,
    ABOUT | {"title": "Test", "websiteUrl": "https://test.example", "description": "x"},
]


def greeting(version=OLDER, **params):
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": ABOUT, **params}
    return line("initialize", hello, "hello")


def enveloped(method="tools/list", number="hello", /, version=CURRENT, **members):
    meta = {"protocolVersion": version, "clientCapabilities": {}, **members}
    return line(method, {"_meta": {META + name: one for name, one in meta.items()}}, number)


@pytest.mark.parametrize("capabilities", CAPABILITIES, ids=str)
@pytest.mark.parametrize("about", CLIENTS, ids=["short", "long"])
def test_the_usual_greetings_are_answered(sdk, capabilities, about):
    for version in KNOWN_PROTOCOL_VERSIONS[:-1]:
        greets = greeting(version, capabilities=capabilities, clientInfo=about)
        assert agrees(sdk, greets, line("tools/list")) == [True, True]
    how = {"clientCapabilities": capabilities, "clientInfo": about}
    assert agrees(sdk, enveloped("server/discover", **how), enveloped("tools/list", 1, **how)) == [
        *(True, True)
    ]
    assert agrees(sdk, enveloped("tools/list")) == [True]  # nothing has to come before it


ASKED = ["ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list"]


def test_what_is_asked_of_the_server_itself_is_answered(sdk):
    rest = [line(method, number=number) for number, method in enumerate(ASKED)]
    more = [line("tools/list", one, n) for n, one in enumerate(({}, {"_meta": {}}), 10)]
    token = line("tools/list", {"_meta": {"progressToken": 7, "x/y": [1]}}, "token")
    ready = '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
    assert agrees(sdk, greeting(), *rest, *more, token) == [True] * 9
    assert agrees(sdk, greeting(), ready, *rest) == [True, False, *[True] * 5]
    rest = [enveloped(method, number) for number, method in enumerate(ASKED[1:])]
    assert agrees(sdk, enveloped("server/discover"), *rest) == [True] * 5


# What belongs to the SDK, with what opens the connection before.
LEFT = [
    *((greeting(), line(method)) for method in ("nope", "initialize", "server/discover", "")),
    *((greeting(), line("tools/list", {"cursor": one})) for one in ("", "x", 7, {}, [])),
    *(
        (greeting(), line("tools/list", {"_meta": one}))
        for one in (7, [], "x", {"progressToken": 1.5}, {"progressToken": True})
    ),
    (greeting(), greeting("2024-11-05").replace("hello", "again")),
    (greeting(), enveloped("tools/list", 1)),
    (greeting(), line("ping", [1])),
    (greeting(), line("ping", number=1.5)),
    (greeting(), line("ping", number=True)),
    (greeting(), line("ping", number=2**70)),
    (greeting(), line("ping", result={})),
    (greeting(), line("ping").replace("2.0", "1.0")),
    (greeting(), line("tools/call", {"name": "mq9_nope", "arguments": {}})),
    (greeting(), line("ping", {"_meta": {"x": [[[]]]}}).replace("[[[]]]", "[" * 300 + "]" * 300)),
    (greeting(), '{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}\n'),
    *((greeting(), one) for one in ("\n", "[]\n", "7\n", "{\n", "\x00\n")),
    (enveloped("server/discover"), line("tools/list")),
    (enveloped("server/discover"), greeting().replace("hello", "again")),
    (enveloped("server/discover"), enveloped("ping", 1)),
    (enveloped("server/discover"), enveloped("tools/list", 1, logLevel="debug")),
    *((enveloped("server/discover"), enveloped("tools/list", 1, version=one)) for one in ("x", 7)),
]
# What does not open a connection beyond doubt; all that follows is for the SDK as well.
DOUBTFUL = [
    *(line(method, number="hello") for method in ASKED),
    line("server/discover"),
    *(greeting(one) for one in ("1999-01-01", CURRENT, 7, None)),
    *(
        greeting(capabilities=one)
        for one in (None, [], {"roots": 7}, {"roots": {"listChanged": 7}})
    ),
    *(
        greeting(capabilities=one)
        for one in ({"sampling": {"tools": 7}}, {"experimental": {"x": 1}})
    ),
    *(greeting(clientInfo=one) for one in (None, {}, {"name": "x"}, ABOUT | {"title": 7})),
    greeting(clientInfo=ABOUT | {"icons": [{"src": "x"}]}),
    greeting(_meta={f"{META}protocolVersion": CURRENT}),
    enveloped(version="1999-01-01"),
    enveloped(clientCapabilities=7),
    enveloped(clientInfo={}),
    enveloped("nope"),
    "{\n",
]


@pytest.mark.parametrize(("begin", "then"), LEFT, ids=lambda one: one[-60:-1][:50])
def test_what_is_not_beyond_doubt_is_left_to_the_sdk(sdk, begin, then):
    assert agrees(sdk, begin, then) == [True, False]


@pytest.mark.parametrize("begin", DOUBTFUL, ids=lambda one: one[:120])
def test_the_sdk_decides_what_is_spoken_when_that_is_in_doubt(sdk, begin):
    then = (greeting().replace("hello", "again"), enveloped("tools/list", "list"), line("ping"))
    assert agrees(sdk, begin, *then) == [False] * 4


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", OLDER, CURRENT]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["form", "url", "tools", "listChanged", "requests", "create", "x"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=4,
)
_NAMES = ["roots", "sampling", "elicitation", "tasks", "experimental", "extensions", "x"]
_CAPABILITIES = st.dictionaries(
    st.sampled_from(_NAMES), st.dictionaries(st.text("ab", max_size=1), _JSON, max_size=2) | _JSON
)
_ABOUT = st.fixed_dictionaries(
    {"name": st.just("x") | _JSON, "version": st.just("1") | _JSON},
    optional=dict.fromkeys(["title", "websiteUrl", "icons", "x"], st.just("x") | _JSON),
)
_META = st.dictionaries(
    st.sampled_from(["progressToken", "x", f"{META}logLevel", f"{META}related-task"]), _JSON
)


@pytest.mark.unmeasured
@settings(deadline=None, max_examples=300)
@given(capabilities=_CAPABILITIES, about=_ABOUT, meta=_META)
def test_whatever_clients_say_of_themselves_nobody_hears_two_answers(
    sdk, capabilities, about, meta
):
    numbers = count()
    hello = {"protocolVersion": OLDER, "capabilities": capabilities, "clientInfo": about}
    agrees(
        sdk,
        line("initialize", hello | ({"_meta": meta} if meta else {}), next(numbers)),
        line("tools/list", {"_meta": meta}, next(numbers)),
    )
    own = {"protocolVersion": CURRENT, "clientCapabilities": capabilities, "clientInfo": about}
    params = {"_meta": meta | {META + name: one for name, one in own.items()}}
    agrees(sdk, line("tools/list", params, next(numbers)), line("ping", params, next(numbers)))


def test_the_sdk_is_told_what_opened_the_connection():
    for begin in (greeting(), enveloped("server/discover"), enveloped("tools/list")):
        answer, told = EarlyResponder(first_answers()).respond(begin)
        assert json.loads(answer)["id"] == "hello"
        assert json.loads(told) == json.loads(begin) | {"id": ANSWERED_ID}


LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


@pytest.mark.parametrize(
    ("changes", "answered"),
    [
        ({}, True),
        ({"notifications": LISTS | {"resourceSubscriptions": ["mq9://mailbox/desk"]}}, False),
        ({"notifications": LISTS | {"othersListChanged": True}}, False),
        ({"notifications": {"toolsListChanged": 1}}, False),
        ({"notifications": None}, False),
        ({"_meta": {}}, False),
    ],
)
def test_only_to_listen_for_what_never_changes_is_acknowledged_before_the_sdk_is_there(
    changes, answered
):
    responder = EarlyResponder(first_answers())
    responder.respond(enveloped("server/discover"))
    meta = {f"{META}protocolVersion": CURRENT, f"{META}clientCapabilities": {}}
    listen = line("subscriptions/listen", {"_meta": meta, "notifications": LISTS} | changes)
    answer, told = responder.respond(listen)
    assert (answer is not None) == answered
    assert answered or told == listen
    answer, _ = responder.respond(enveloped("tools/list", "behind it"))
    assert answer is not None


class Pipes:
    """A front between two pipes."""

    def __init__(self, exits):
        def pipe(reading, writing):
            for end, mode in zip(os.pipe(), (reading, writing), strict=True):
                yield exits.enter_context(os.fdopen(end, mode, 0 if "b" in mode else -1))

        wire, self.saying = pipe("r", "w")
        self.hearing, writing = pipe("r", "wb")
        self.front = StdinReader(EarlyResponder(first_answers()), wire, writing)
        self.front.start()

    def say(self, *lines):
        self.saying.writelines(lines)
        self.saying.flush()

    async def kept(self):
        """Return the next line that is left to the SDK."""
        taken = []

        def take():
            taken.append(self.front.take())
            return taken[-1] is not None

        await until(take)
        return taken[-1]


@pytest.fixture
def pipes():
    with contextlib.ExitStack() as exits:
        yield Pipes(exits)


async def test_after_the_sdk_took_over_everything_is_left_to_it(pipes):
    pipes.say(greeting(), line("ping", number=2))
    assert [json.loads(pipes.hearing.readline())["id"] for _ in range(2)] == ["hello", 2]
    assert json.loads(await pipes.kept())["id"] == ANSWERED_ID
    wakes = threading.Semaphore(0)
    pipes.front.take_over(wakes.release)
    said = [line("ping", number=3), "é\n", "no end", ""]
    pipes.say(*said)
    pipes.saying.close()
    for one in said:
        assert await asyncio.to_thread(wakes.acquire, timeout=30)
        assert pipes.front.take() == one


async def test_a_client_that_is_gone_ends_it(pipes, caplog):
    pipes.hearing.close()
    pipes.say(greeting())
    assert await pipes.kept() == ""
    assert "Broken pipe" in caplog.text
