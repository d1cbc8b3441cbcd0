"""Permissions that real hosts ask people for by mail, and what they make of the answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from mcp_server.delivery.shapes import ASKING_ASIDE, EDITABLE, PERMISSIONS
from mq9 import SyncMq9Client
from mq9.questions import TAG, MailedQuestion, closing_note
from tests.hosts.programs import PROGRAMS, Home
from tests.hosts.scripted_model import PROMPT, ScriptedModel

pytestmark = [pytest.mark.hosts, pytest.mark.programs, pytest.mark.timeout(300)]

ASKING = [one for one in PROGRAMS if one.name in PERMISSIONS]
ALONE = ("claude-code", "copilot")  # which ask, though nobody sits at a terminal
ENDING = ("claude-code", "codex", "qwen")  # which say, or show by ending the hook, that it is over
BY_NAME = {"indirect": True, "ids": lambda program: program.name}
WAIT_S = 60
LIMIT_S = 40  # a host may take so long to begin, and to ask
MADE = "made-by-the-model"
COMMAND = f"touch {MADE} && echo it-is-$((40 + 2))"
PRINTED = "it-is-42"


@dataclass(frozen=True)
class Shell:
    """The tool by which a host runs a command, and how its own prompt looks."""

    tool: str
    more: dict
    prompt: str  # without blanks
    command: str = "command"
    terminal_words: tuple[str, ...] | None = None
    begins: str = ""  # a text that it draws when it listens


SHELLS = {
    "claude-code": Shell("Bash", {"description": "touch it"}, "Doyouwanttoproceed?"),
    "codex": Shell(
        "exec_command",
        {"sandbox_permissions": "require_escalated", "justification": "touch it"},
        "Wouldyouliketorunthefollowingcommand?",
        command="cmd",
        terminal_words=("--config", 'approval_policy="on-request"'),
    ),
    "qwen": Shell(
        "run_shell_command",
        {"description": "touch it", "is_background": False},
        "Allowexecutionof",
        terminal_words=("--model", "scripted", "--approval-mode", "default"),
        begins="Typeyourmessage",
    ),
    "copilot": Shell(
        "bash",
        {"description": "touch it"},
        "Doyouwanttorunthiscommand?",
        terminal_words=("--no-auto-update", "--disable-builtin-mcps", "--disable-client-telemetry"),
        begins="ManualApproval",
    ),
}


class Session:
    """A host in a terminal, whose model runs a command, and the person who is asked."""

    def __init__(self, home, program, server, client):
        self.home = home
        self.program = program
        self.shell = SHELLS[program.name]
        self.server = server
        self.client = client
        self.terminal = None
        home.set_up(program)

    def install(self, seconds=WAIT_S):
        asked = ("--approvals", "boss", "--approvals-wait", str(seconds))
        self.home.install(self.program, "--server", self.server, *asked)

    def steps(self, command=COMMAND):
        arguments = {self.shell.command: command, **self.shell.more}
        return [(self.shell.tool, lambda _said: arguments)]

    def begin(self, terminal, command):
        self.home.model.begin(self.steps(command))
        terminal.settle(self.shell.begins or self.program.terminal_begins)
        if self.program.name == "codex":
            terminal.type("2")  # trust all and continue
            terminal.settle()
        terminal.type(PROMPT)

    @contextmanager
    def in_terminal(self, command=COMMAND):
        """Run it in a terminal, up to where the model asks for its command."""
        words = self.shell.terminal_words
        program = self.program if words is None else replace(self.program, terminal_words=words)
        with self.home.in_terminal(program) as terminal:
            self.begin(terminal, command)
            self.terminal = terminal
            yield terminal

    def run_alone(self):
        """Run it without its user, as a process that is not waited for."""
        return self.home.run(replace(self.program, words=self.program.asking_words), self.steps())

    def question(self):
        """The open question, once it is there."""
        return self.until(lambda: self.client.query("boss", tags=[TAG]))[-1]

    def note(self):
        """Why the newest question needs no answer."""

        def found():
            messages = self.client.query("boss", limit=1)
            return messages and closing_note(messages[-1].payload)

        return self.until(found)

    def answer(self, decision):
        """Answer the open question; what was asked."""
        message = self.question()
        self.client.reply(message, decision, sender="boss")
        return MailedQuestion.from_payload(message.payload)

    def told(self):
        """What the model was told of its command, once it was."""
        return self.until(lambda: self.home.model.seen.told)[0]

    def until(self, condition):
        end = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert time.monotonic() < end, self.terminal and self.terminal.drawn[-2000:]
            time.sleep(0.05)
        return found

    @property
    def made(self):
        return (self.home.work / MADE).exists()


def named(program):
    return program.name


@pytest.fixture(params=ASKING, ids=named)
def session(tmp_path, request):
    request.param.need()
    directory = tmp_path / "home"
    directory.mkdir()
    server = f"sqlite:///{tmp_path / 'mail.db'}"
    with ScriptedModel() as model, SyncMq9Client.connect(server) as client:
        client.mailbox_create(name="boss")
        yield Session(Home(directory, model), request.param, server, client)


def test_what_a_person_approves_is_done(session):
    session.install()
    with session.in_terminal():
        question = session.answer("approve")
        assert PRINTED in session.told()
    assert session.made
    assert question.text.startswith(f"{session.program.name} asks: may it use ")
    [action] = question.actions
    assert action.args["command"] == COMMAND


def test_what_a_person_rejects_is_not_done_and_the_model_hears_why(session):
    session.install()
    with session.in_terminal():
        session.answer({"type": "reject", "message": "use the other one"})
        assert "boss said no: use the other one" in session.told()
    assert not session.made


@pytest.mark.parametrize("session", [one for one in ASKING if one.name in EDITABLE], **BY_NAME)
def test_what_a_person_edits_is_done_instead(session):
    session.install()
    with session.in_terminal():
        [action] = MailedQuestion.from_payload(session.question().payload).actions
        args = {**action.args, "command": "echo edited-$((40 + 3))"}
        edited = {"name": action.name, "args": args}
        session.answer({"type": "edit", "edited_action": edited})
        assert "edited-43" in session.told()
    assert not session.made


def test_without_an_answer_in_time_the_host_asks_in_its_terminal(session):
    session.install(3)
    with session.in_terminal() as terminal:
        session.question()
        session.until(lambda: not session.client.query("boss"))
        session.until(lambda: session.shell.prompt in terminal.drawn)
        assert session.home.model.seen.told == []
    assert not session.made


@pytest.mark.parametrize("session", [one for one in ASKING if one.name in ENDING], **BY_NAME)
def test_what_the_user_ends_in_the_terminal_closes_the_question(session):
    session.install()
    with session.in_terminal() as terminal:
        session.question()
        if session.program.name in ASKING_ASIDE:
            session.until(lambda: session.shell.prompt in terminal.drawn)
            terminal.settle()
            terminal.press(b"\r")  # yes
            assert session.note() == "it was answered where the host runs"
            assert PRINTED in session.told()
        else:
            terminal.settle()
            terminal.press(b"\x1b")
            assert session.note() == "the host no longer asks"
            assert session.home.model.seen.told == []


@pytest.mark.parametrize("session", [one for one in ASKING if one.name in ALONE], **BY_NAME)
def test_a_host_without_a_window_asks_as_well(session):
    session.install()
    with ThreadPoolExecutor() as threads:
        running = threads.submit(session.run_alone)
        session.answer("approve")
        assert PRINTED in running.result(LIMIT_S).told[0]
    assert session.made
