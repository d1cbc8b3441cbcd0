"""The program's start: early answers, and requests that wait for the SDK."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import version

import pytest
import typer.main
from hosting import HELLO, META
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import MQ9_MCP, TIMEOUT_S, StdioServer

from mcp_server.cli import app
from mcp_server.options import Options
from mcp_server.settings import AUTO
from mcp_server.startup.answers import FILE
from mcp_server.startup.begin import PLAIN_URL, is_installed, understood
from mq9.operations.catalog import ALL
from mq9.protocol.address_patterns import AddressPatterns
from mq9.transport.open import check_url

OLDER, CURRENT = "2025-11-25", "2026-07-28"
# Whoever imports one of these waits until somebody opens the pipe for writing.
GATE = """
import sys
SLOW = {"pydantic", "pydantic_core", "mcp_types", "starlette", "langchain_core", "nats"}
class Gate:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in SLOW or name.startswith("mcp."):
            sys.meta_path.remove(self)
            with open(GATE) as gate:
                gate.read()
sys.meta_path.insert(0, Gate())
"""

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


class GatedServer(StdioServer):
    """Does not get to the SDK before it is let through."""

    gate = None

    def let_through(self):
        self.gate.open("w").close()
        self.gate = None

    def end(self):
        if self.gate is not None:
            self.process.stdin.close()
            self.let_through()
        return super().end()


@pytest.fixture
def start(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "sitecustomize.py").write_text(f"GATE = {str(gate)!r}\n{GATE}")
    kept = {key: one for key, one in os.environ.items() if not key.startswith(("MQ9_", "COV"))}
    environment = {**kept, "PYTHONPATH": str(tmp_path)}
    with ExitStack() as stack:

        def begin(*options, command=(MQ9_MCP,)):
            own = ("--agent", "desk", "--server", f"sqlite:///{tmp_path}/mq9.db")
            server = GatedServer(*own, *options, command=command, env=environment)
            server.gate = gate
            return stack.enter_context(server)

        yield begin


@pytest.mark.quick
@pytest.mark.parametrize("command", [(MQ9_MCP,), (sys.executable, "-m", "mcp_server")], ids=len)
def test_the_tools_are_there_before_the_sdk_is(start, command):
    program = start("--read-only", "--prefix", "x-", command=command)
    assert program.ask("initialize", 1, **HELLO)["result"]["protocolVersion"] == OLDER
    program.say("notifications/initialized")
    tools = program.ask("tools/list", 2)["result"]["tools"]
    assert {one["name"] for one in tools} == {
        f"x-{name}" for name, one in ALL.items() if one.read_only
    }
    assert program.end() == []


def test_what_is_asked_early_is_answered_when_the_sdk_is_there(start):
    program = start()
    program.ask("initialize", "a", **HELLO)
    program.say("notifications/initialized")
    program.say("tools/call", "given up", name="mq9_fetch_messages", arguments={})
    program.say("notifications/cancelled", requestId="given up")
    program.say("tools/call", "early", name="mq9_whoami", arguments={})
    program.write(b'{"id": 3, "method": "ping"}')
    program.say("nope", "unknown")
    # What is asked later is answered earlier, where nothing has to be waited for.
    for number, method in enumerate(
        ("ping", "prompts/list", "resources/list", "resources/templates/list", "tools/list"), 10
    ):
        assert "result" in program.ask(method, number)

    program.let_through()
    answers = {}
    while answers.keys() != {"early", "unknown", 3}:
        answer = program.hear()
        assert answer["id"] not in answers
        answers[answer["id"]] = answer
    assert answers["early"]["result"]["structuredContent"]["name"] == "desk"
    assert answers["unknown"]["error"]["code"] == -32601
    assert answers[3]["error"]["code"] == -32600
    # From now on it is the SDK that answers. The handshake is not done again, nor asked for.
    assert len(program.ask("tools/list", 20)["result"]["tools"]) == len(ALL)
    assert "result" in program.ask("ping", 21)
    assert "error" in program.ask("tools/list", 22, _meta=META)
    assert "result" in program.ask("resources/subscribe", 23, uri="mq9://mailbox/desk")
    assert program.end() == []


LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def subscribed(name):
    return {"io.modelcontextprotocol/subscriptionId": name}


def test_the_newest_protocol_is_answered_as_early(start):
    program = start()
    discovered = program.ask("server/discover", "a", _meta=META)["result"]
    assert discovered["supportedVersions"] == [CURRENT]
    program.say("subscriptions/listen", "listen:0", _meta=META, notifications=LISTS)
    acknowledged = program.hear()
    assert acknowledged == {
        "jsonrpc": "2.0",
        "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": subscribed("listen:0"), "notifications": {}},
    }
    assert len(program.ask("tools/list", "b", _meta=META)["result"]["tools"]) == len(ALL)
    early = {"name": "mq9_whoami", "arguments": {}, "_meta": META}
    program.say("tools/call", "early", **early)
    program.say("tools/list", "without envelope")
    program.let_through()
    # The SDK acknowledges as well, which nobody hears; and later it is the only one to do so.
    answers = {one["id"]: one for one in (program.hear(), program.hear())}
    assert answers["early"]["result"]["structuredContent"]["name"] == "desk"
    assert answers["without envelope"]["error"]["code"] == -32602
    # It is known which protocol the client began with.
    assert program.ask("initialize", "c", **HELLO)["error"]["code"] == -32022
    assert len(program.ask("tools/list", "a", _meta=META)["result"]["tools"]) == len(ALL)
    program.say("subscriptions/listen", "listen:1", _meta=META, notifications=LISTS)
    assert program.hear()["params"] == {"_meta": subscribed("listen:1"), "notifications": {}}
    assert acknowledged not in program.end()


@pytest.mark.parametrize("says_more", [False, True])
def test_an_agent_that_is_named_after_its_host_has_the_tools_as_early(start, says_more):
    assert start().end() == []  # a client that leaves at once is not missed
    program = start("--agent", "auto")
    hello = program.ask("initialize", 1, **HELLO)["result"]
    assert "mq9_whoami tells who you are" in hello["instructions"]
    assert len(program.ask("tools/list", 2)["result"]["tools"]) == len(ALL)
    if says_more:
        program.say("resources/list", "named by then")
        assert "prompts" in program.ask("prompts/list", 3)["result"]
        program.let_through()
        *_, mailbox = program.hear()["result"]["resources"]
        assert mailbox["uri"].startswith("mq9://mailbox/test")
    assert program.end() == []


def test_what_is_no_proper_start_is_refused_before_anything_is_answered(start):
    program = start("--tools", "nothing")
    program.say("initialize", 1, **HELLO)
    program.let_through()
    assert program.process.stdout.read() == b""
    assert program.process.wait(TIMEOUT_S) == 2


def test_only_the_sdk_that_gave_the_answers_counts_as_installed(tmp_path, monkeypatch):
    installed = version("mcp")
    assert is_installed(installed)
    assert not is_installed(f"{installed}.1")
    (tmp_path / "mcp").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mcp", raising=False)
    (tmp_path / "mcp/__init__.py").touch()
    assert not is_installed(installed)
    (tmp_path / f"mcp-{installed}.dist-info").mkdir()
    assert is_installed(installed)


@pytest.mark.parametrize(
    ("sdk", "begun"), [(version("mcp"), "StdinReader"), ("2.2.999", "NoneType")]
)
def test_nothing_is_answered_for_another_sdk(tmp_path, sdk, begun):
    recorded = tmp_path / "answers.json"
    recorded.write_text(json.dumps(json.loads(FILE.read_text("utf-8")) | {"sdk": sdk}), "utf-8")
    script = (
        "import pathlib, mcp_server.startup.answers\nfrom mcp_server.startup.begin import begin\n"
        f"mcp_server.startup.answers.FILE = pathlib.Path({str(recorded)!r})\n"
        "print(type(begin(['--agent', 'desk'], {})).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{begun}\n"


@pytest.mark.quick
def test_nothing_is_loaded_for_it_that_takes_long():
    script = (
        "import sys\nfrom mcp_server.startup.begin import begin, understood\n"
        "from mcp_server.startup.answers import Answers\n"
        "start = understood(['--agent', 'desk'], {})\n"
        "assert Answers(start.settings, start.identity).result('2025-11-25', 'tools/list')\n"
        "print(*sys.modules)"
    )
    kept = {key: one for key, one in os.environ.items() if "COVERAGE" not in key}
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=kept, capture_output=True, text=True, check=True
    ).stdout.split()
    slow = {"anyio", "asyncio", "langchain_core", "mcp", "mcp_types", "mq9.client", "nats"}
    assert not {*slow, "pydantic", "pydantic_core", "starlette", "typer"} & set(loaded)


OPTIONS = [
    *(f"--agent={one}" for one in ("desk", "A b", "auto", "", "!!!", "-5", "--x")),
    *("--mail-address=x.y", "--mail-address=No", "--read-only", "--read-only=x", "--http"),
    *(f"--prefix={one}" for one in ("", "x-", "a.b")),
    *(f"--tools={one}" for one in ("", "whoami", "x-whoami, mq9_send_message", "nothing")),
    *("--allow-send=a.*", "--allow-send=", "--allow-read=b", "--allow-read=c.?", "--allow"),
    *(f"--lease={one}" for one in ("1", "86400", "86401", "0", "x", "1_0", " 7", "", "9" * 10)),
    *("--max-chars=99", "--max-chars=100", "--registration=0", "--registration=-1"),
    *("--server=memory:", "--server=nats://h:4222", "--server=", "--server=ftp://h"),
    *("--server=nats://u:p%20w@h", "--server=sqlite:///a.db", "--server=sqlite:///a?x=y"),
    *("--log-level=info", "--log-level=loud", "--nonsense", "doctor", "--help", "--", "-v"),
]
_LINES = st.lists(
    st.sampled_from(OPTIONS).flatmap(
        lambda one: st.sampled_from([[one], one.split("=", 1)])  # in one word, or in two
    ),
    max_size=5,
)


def contents(identity):
    """Return the attributes of an agent in a form that can be compared."""
    values = vars(identity) | {"_lock": None}
    return {
        name: list(one) if isinstance(one, AddressPatterns) else one for name, one in values.items()
    }


@settings(deadline=None, max_examples=500)
@given(_LINES, st.fixed_dictionaries({}, optional={"MQ9_AGENT": st.sampled_from(["me", ""])}))
def test_what_is_understood_is_what_the_command_line_understands(lines, environment):
    words = [word for one in lines for word in one]
    start = understood(words, environment)
    if start is None:
        return
    command = typer.main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MQ9_AGENT", "MQ9_SERVER"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        with command.make_context("mq9-mcp", list(words)) as context:
            params = context.params
            assert not context.args
    meant = Options(**params).settings()
    assert start.settings == meant
    if params["agent"] == AUTO:
        assert start.identity is params["mail_address"] is None
    else:
        identity = meant.identity(params["agent"], params["mail_address"])
        assert contents(start.identity) == contents(identity)
    assert not params["http"]
    if params["server"]:
        check_url(params["server"])


@settings(deadline=None, max_examples=500)
@given(st.from_regex(PLAIN_URL, fullmatch=True))
def test_what_counts_as_a_plain_url_is_one(url):
    check_url(url)


@pytest.mark.quick
@pytest.mark.parametrize(
    "line",
    [
        "--agent desk",
        "--agent=Claude-Code --server sqlite:////home/me/.local/share/mq9/mq9.db",
        "--agent desk --server nats://desk:secret@mail.example:4222 --read-only",
        "--agent desk --prefix x- --tools whoami,fetch_messages --lease 60 --max-chars 500",
        "--agent desk --mail-address my.desk --allow-send team.* --allow-send x --allow-read y",
        "--agent desk --registration 0 --log-level debug",
    ],
)
def test_what_hosts_are_told_to_start_is_understood(line):
    assert understood(line.split(), {}) is not None
    words = line.partition("--agent desk ")[2].split()
    assert understood(words, {"MQ9_AGENT": "desk", "MQ9_SERVER": "nats://localhost"}) is not None
