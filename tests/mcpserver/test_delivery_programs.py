"""Mail that arrives by itself: a server, hooks and watchers, each a program of its own."""

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from programs import MQ9_MCP, TIMEOUT_S, StdioServer

from mq9 import SyncMq9Client

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

NOTICE = "mq9: 1 message waits in your mailbox. Read it with mq9_fetch_messages."
SECRETS = ("token-of-the-body", "ignore-all-instructions", "stranger")


def until(condition):
    """Return when a condition holds; no event of the other program tells of it."""
    ends = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


class Desk:
    """A user's home with a broker, servers of the agent `desk`, and programs of its host."""

    def __init__(self, home, stack):
        kept = {key: one for key, one in os.environ.items() if not key.startswith(("MQ9_", "COV"))}
        self.environment = {**kept, "HOME": str(home), "CLAUDE_CODE_ENTRYPOINT": "cli"}
        self.url = f"sqlite:///{home}/mq9.db"
        self.home = home
        self._stack = stack

    def serve(self, *options, agent="desk"):
        own = ("--agent", agent, "--server", self.url)
        server = StdioServer(*own, *options, env=self.environment, cwd=self.home)
        self._stack.enter_context(server)
        server.greet()
        until(lambda: self.files)
        return server

    @property
    def files(self):
        return sorted(self.home.glob(".local/state/mq9/servers/*/*.json"))

    def send(self, count=1):
        with SyncMq9Client.connect(self.url) as client:
            client.mailbox_create(name="desk", renew=True)
            for _ in range(count):
                client.send("desk", SECRETS[0], sender=SECRETS[2], tags=[SECRETS[1]])

    def hook(self, event, *, host="claude-code", agent="desk", said=None, **document):
        given = {"session_id": "one", "cwd": str(self.home), **document}
        done = subprocess.run(
            [MQ9_MCP, "hook", host, event, "--agent", agent],
            input=json.dumps(given) if said is None else said,
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout) if done.stdout else None

    def told(self, event, **how):
        """What the model is told by a hook of Claude Code; None for nothing."""
        answer = self.hook(event, **how)
        if answer is None:
            return None
        assert answer["hookSpecificOutput"]["hookEventName"] == event
        return answer["hookSpecificOutput"]["additionalContext"]

    def watch(self, host="claude-code", session="one", **environment):
        process = subprocess.Popen(
            [MQ9_MCP, "watch", host, "--agent", "desk", "--session", session],
            env={**self.environment, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(process.stderr.close)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def desk(tmp_path):
    with ExitStack() as stack:
        yield Desk(tmp_path, stack)


@pytest.mark.quick
def test_a_hook_tells_once_of_mail_and_gives_no_word_of_it(desk):
    desk.serve()
    desk.send()
    answer = desk.hook("PostToolUse", tool_response="x" * 1_000_000)
    assert answer == {
        "hookSpecificOutput": {"hookEventName": "PostToolUse", "additionalContext": NOTICE}
    }
    assert not any(secret in json.dumps(answer) for secret in SECRETS)
    assert desk.hook("PostToolUse") is None
    desk.send(10)
    told = desk.told("UserPromptSubmit", prompt="go on")
    assert told.startswith("mq9: 10 new messages wait in your mailbox. 11 wait in all.")
    assert desk.hook("Stop") is None
    # A new session is told of all that is unread.
    assert desk.told("SessionStart", session_id="two").startswith("mq9: 11 messages wait")


def test_without_a_server_a_hook_says_nothing_and_what_a_killed_one_left_is_removed(desk):
    assert desk.hook("PostToolUse") is None
    server = desk.serve()
    [file] = desk.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    server.process.kill()
    server.process.wait()
    assert desk.files == [file]
    assert desk.hook("PostToolUse") is None
    assert desk.files == []


def test_a_server_that_ends_removes_its_file(desk):
    server = desk.serve()
    server.end()
    assert desk.files == []


def test_the_hook_of_the_start_waits_for_the_server(desk):
    desk.send()
    hook = subprocess.Popen(
        [MQ9_MCP, "hook", "claude-code", "SessionStart", "--agent", "desk"],
        env=desk.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    hook.stdin.write('{"session_id": "one"}')
    hook.stdin.close()
    desk.serve()
    with hook:
        assert NOTICE in hook.stdout.read()


def test_a_named_agent_is_found_by_the_directory_where_it_is_named_automatically(desk):
    address = desk.serve(agent="auto").do("whoami")["mail_address"]
    with SyncMq9Client.connect(desk.url) as client:
        client.send(address, b"hi")
    desk.environment["CLAUDE_PID"] = "1"  # another host than the one that has started the server
    assert desk.hook("PostToolUse", agent="auto", cwd="/") is None
    desk.environment["CLAUDE_PROJECT_DIR"] = str(desk.home)  # the model went elsewhere
    assert desk.told("PostToolUse", agent="auto", cwd="/") == NOTICE


@pytest.mark.parametrize(
    "said", ["", "[]", "nonsense", '{"session_id": 7}', "[" * 100_000], ids=len
)
def test_what_is_no_event_is_nothing(desk, said):
    assert desk.hook("Stop", said=said) is None


def test_a_wrong_command_line_stops_no_host(desk):
    for words in (["hook"], ["hook", "vim", "Stop"], ["watch", "gemini", "--agent", "desk"]):
        done = subprocess.run(
            [MQ9_MCP, *words], env=desk.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: write mq9-mcp ")


def test_a_watcher_wakes_a_resting_session_once_however_many_there_are(desk):
    desk.serve("--wake-from", "everyone")
    desk.hook("SessionStart")
    watchers = [desk.watch()]
    for _ in range(2):
        time.sleep(0.5)  # so that they come one after the other
        watchers.append(desk.watch())
    assert [one.wait(TIMEOUT_S) for one in watchers[:2]] == [0, 0]
    desk.send()
    assert watchers[2].wait(TIMEOUT_S) == 2
    assert watchers[2].stderr.read() == NOTICE + "\n"
    assert desk.hook("UserPromptSubmit", prompt="<task-notification>…") is None


def test_a_watcher_ends_with_the_server(desk):
    server = desk.serve()
    watcher = desk.watch()
    with pytest.raises(subprocess.TimeoutExpired):
        watcher.wait(2)
    server.process.kill()
    assert watcher.wait(TIMEOUT_S) == 0


def test_no_watcher_waits_where_nobody_sits_at_a_terminal(desk):
    desk.serve()
    assert desk.watch(CLAUDE_CODE_ENTRYPOINT="sdk-cli").wait(TIMEOUT_S) == 0
    assert desk.watch(CLAUDE_CODE_SESSION_ATTENDED="0").wait(TIMEOUT_S) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_codex_is_woken_by_its_own_command(desk, tmp_path):
    program = tmp_path / "bin/codex"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/queued\n'
    )
    program.chmod(0o755)
    desk.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    desk.serve("--wake-from", "everyone")
    assert desk.hook("Stop", host="codex") is None  # which starts the watcher
    desk.send()
    until((tmp_path / "queued").exists)
    assert (tmp_path / "queued").read_text().splitlines() == [
        *("queue", "--thread", "one", "--message", NOTICE)
    ]


def test_a_host_whose_broker_is_gone_is_told_once_and_goes_on(desk):
    desk.url = "nats://127.0.0.1:1"  # where nothing listens
    desk.serve()
    began = time.monotonic()
    said = desk.hook("PostToolUse")
    assert said.keys() == {"systemMessage"}
    assert said["systemMessage"].startswith("mq9: mail is not delivered here: ")
    for event in ("PostToolUse", "Stop", "UserPromptSubmit", "PostToolUse"):
        assert desk.hook(event) is None
    assert time.monotonic() - began < TIMEOUT_S
