"""Permissions that hosts ask for: a server, hooks and the person's commands, each a program."""

import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest
from programs import MQ9_MCP, TIMEOUT_S, StdioServer

from mq9 import SyncMq9Client
from mq9.questions import TAG, closing_note
from tests.serving import Serving
from tests.users_file import write_users

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

NAMES = ("desk", "boss", "mallory")
MQ9 = MQ9_MCP.with_name("mq9")
DOCUMENT = {"session_id": "one", "tool_name": "Bash", "tool_input": {"command": "touch x"}}


class Home:
    """A user's home with a broker, servers of the agent `desk`, and hooks of its host."""

    def __init__(self, home, stack, *, url=None, persons_url=None):
        kept = {key: one for key, one in os.environ.items() if not key.startswith(("MQ9_", "COV"))}
        self.url = url or f"sqlite:///{home}/mq9.db"
        self.persons_url = persons_url or self.url
        self.environment = {**kept, "HOME": str(home), "MQ9_SERVER": self.url}
        self.home = home
        self.stack = stack
        self.client = stack.enter_context(SyncMq9Client.connect(self.persons_url))
        self.client.mailbox_create(name="boss")

    def serve(self):
        server = StdioServer("--agent", "desk", env=self.environment, cwd=self.home)
        self.stack.enter_context(server)
        server.greet()
        self.until(lambda: list(self.home.glob(".local/state/mq9/servers/*/*.json")))
        return server

    def until(self, condition):
        """What holds at last; no event of the other program tells of it."""
        ends = time.monotonic() + TIMEOUT_S
        while not (found := condition()):
            assert time.monotonic() < ends
            time.sleep(0.02)
        return found

    def hook(self, event="PermissionRequest", host="claude-code", seconds=60, document=DOCUMENT):
        """Begin a hook."""
        asked = ("--approvals", "boss", "--wait", str(seconds))
        words = ("permission", host, event, "--agent", "desk")
        process = subprocess.Popen(
            [MQ9_MCP, *words, *(asked if event == "PermissionRequest" else ())],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        process.stdin.write(json.dumps({"cwd": str(self.home), **document}))
        process.stdin.close()
        process.stdin = None
        return process

    def question(self):
        return self.until(lambda: self.client.query("boss", tags=[TAG]))[-1]

    def note(self):
        """Why the newest question needs no answer."""

        def found():
            messages = self.client.query("boss", limit=1)
            return messages and closing_note(messages[-1].payload)

        return self.until(found)

    def reply(self, *words):
        done = subprocess.run(
            [MQ9, "reply", "boss", str(self.question().msg_id), *words],
            env={**self.environment, "MQ9_SERVER": self.persons_url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


def printed(hook):
    """The decision that a hook prints; None for nothing."""
    out, err = hook.communicate(timeout=TIMEOUT_S)
    assert (hook.returncode, err) == (0, "")
    return json.loads(out)["hookSpecificOutput"]["decision"] if out else None


@pytest.fixture
def home(tmp_path):
    with ExitStack() as stack:
        yield Home(tmp_path, stack)


@pytest.mark.quick
def test_what_a_person_replies_is_what_the_host_hears(home):
    home.serve()
    for words, decision in (
        (["approve"], {"behavior": "allow"}),
        (["reject", "--message", "no"], {"behavior": "deny", "message": "boss said no: no"}),
        (
            ["edit", "--args", '{"command": "touch y"}'],
            {"behavior": "allow", "updatedInput": {"command": "touch y"}},
        ),
    ):
        hook = home.hook()
        code, said = home.reply(*words)
        assert (code, said.startswith("answered message")) == (0, True), said
        assert printed(hook) == decision
        assert not home.client.query("boss", tags=[TAG])


def test_without_an_answer_in_time_nothing_is_printed(home):
    home.serve()
    hook = home.hook(seconds=2)
    home.question()
    assert printed(hook) is None
    home.until(lambda: not home.client.query("boss"))


def test_without_a_server_nothing_is_asked_and_nothing_printed(home):
    assert printed(home.hook()) is None
    server = home.serve()
    server.process.kill()
    server.process.wait()
    assert printed(home.hook()) is None
    assert not home.client.query("boss")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_that_the_host_ends_closes_its_question(home, number):
    home.serve()
    hook = home.hook()
    home.question()
    hook.send_signal(number)
    assert home.note() == "the host no longer asks"


def test_what_was_answered_in_the_terminal_closes_its_question(home):
    home.serve()
    hook = home.hook()
    question = home.question()
    assert printed(home.hook("PostToolUse", document={**DOCUMENT, "session_id": "two"})) is None
    assert home.question().msg_id == question.msg_id
    assert printed(home.hook("PostToolUse")) is None
    assert home.note() == "it was answered where the host runs"
    assert printed(hook) is None


def test_a_host_that_ends_closes_the_questions_of_its_server(home):
    server = home.serve()
    hook = home.hook()
    home.question()
    server.end()
    assert home.note() == "the host no longer asks"
    assert printed(hook) is None


def test_a_killed_server_leaves_a_question_that_expires_and_no_other_server_asks_again(home):
    server = home.serve()
    hook = home.hook(seconds=6)
    question = home.question()
    home.serve()
    server.process.kill()
    assert printed(hook) is None
    assert [one.msg_id for one in home.client.query("boss")] == [question.msg_id]
    code, said = home.reply("approve")
    assert (code, "sent, not confirmed yet" in said) == (0, True)
    home.until(lambda: not home.client.query("boss"))


def test_two_hooks_at_once_get_their_own_answers(home):
    home.serve()
    hooks = [home.hook(document={**DOCUMENT, "session_id": name}) for name in "ab"]
    questions = home.until(
        lambda: len(found := home.client.query("boss", tags=[TAG])) == 2 and list(found)
    )
    decided = {}
    for question in questions:
        session = question.json()["value"]["session"]
        word = "approve" if session == "a" else "reject"
        home.client.reply(question, word, sender="boss")
        decided[session] = word
    assert [printed(hook)["behavior"] for hook in hooks] == ["allow", "deny"]
    assert decided.keys() == {"a", "b"}


def test_a_large_document_is_asked_about_in_bounds(home):
    home.serve()
    document = {
        **DOCUMENT,
        "tool_name": "Write",
        "tool_input": {"file_path": "/x", "content": "\u00e9" * 1_000_000},
    }
    hook = home.hook(document=document)
    question = home.question()
    assert len(question.payload) < 200_000
    assert "characters of the arguments were left out" in question.json()["text"]
    home.client.reply(question, "approve", sender="boss")
    assert printed(hook) == {"behavior": "allow"}


USERS = "".join(f'[[users]]\nagent = "{name}"\ntoken = "{name}-x"\n' for name in NAMES)


def test_on_a_server_with_users_the_person_decides_also_when_the_server_was_killed(tmp_path):
    users = write_users(tmp_path, USERS)
    with (
        ExitStack() as stack,
        Serving(tmp_path, "--users", str(users), "--data", str(tmp_path / "served.db")) as serving,
    ):
        where = serving.url.split("//")[1]
        urls = {name: f"nats://{name}-x@{where}" for name in NAMES}
        home = Home(tmp_path, stack, url=urls["desk"], persons_url=urls["boss"])
        home.serve()
        hook = home.hook()
        question = home.question()
        with SyncMq9Client.connect(urls["mallory"]) as mallory:
            mallory.send(question.reply_to, "approve", correlation_id=question.correlation_id)
        serving.kill()
        serving.start()
        assert hook.poll() is None
        code, said = home.reply("reject", "--message", "no", "--wait", "60")
        assert (code, said.startswith("answered message")) == (0, True), said
        assert printed(hook) == {"behavior": "deny", "message": "boss said no: no"}
