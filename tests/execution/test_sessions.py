"""`mq9 exec`: sessions of conversations, and hosts that keep them."""

import asyncio
import json
import os
import sys
import time

import pytest

from execution.conftest import messages_in
from mq9.cli.exec.presets import PRESETS
from mq9.cli.exec.sessions import Sessions
from mq9.cli.exec.template import Template

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups"),
]

# Says which session it goes on with, and leaves another one.
TALK = 'echo "$@"; echo "s-$MQ9_MSG_ID" > "$MQ9_SESSION_FILE"'
TALKING = ("sh", "-c", TALK, "talk", "[", "--resume", "{session}", "]", "-")


@pytest.mark.quick
def test_a_conversation_goes_on_with_its_own_session(execute, send, answers):
    for sender, rent in (("ada", "a"), ("ada", "b"), ("ada", "a"), ("bob", "a"), ("ada", "a")):
        send("x", "--from", sender, "--header", f"conversation: {rent}")
        execute(*TALKING)  # each in a program of its own
    assert answers() == ["-\n", "-\n", "--resume s-0 -\n", "-\n", "--resume s-2 -\n"]


def test_all_messages_go_on_with_a_session_that_is_named(execute, send, answers):
    for sender in ("ada", "bob"):
        send("x", "--from", sender)
        execute(*TALKING, options=("--session", "s-own"))
    assert answers() == ["--resume s-own -\n", "--resume s-0 -\n"]


def test_messages_of_a_conversation_run_one_after_the_other(execute, send, answers, tmp_path):
    for _ in range(3):
        send()
    overlap = f"mkdir {tmp_path}/alone || exit 65; sleep 0.1; rmdir {tmp_path}/alone; "
    script = overlap + TALK
    execute(
        *("sh", "-c", script, "talk", "[", "{session}", "]"),
        messages=3,
        options=("--concurrency", "3"),
    )
    assert answers() == ["\n", "s-0\n", "s-1\n"]


def test_a_message_that_fails_with_a_session_begins_a_new_one(execute, send, answers):
    send()
    execute(*TALKING)
    send()
    failing = f'[ "$#" = 1 ] || exit 1; {TALK}'
    done = execute("sh", "-c", failing, *TALKING[3:], messages=3)
    assert answers() == ["-\n", "-\n"]
    assert done.err.count("exit code 1") == 4


@pytest.mark.parametrize("id_", ["--dangerous", "a b", "../x", "x" * 129, ""])
def test_what_is_no_id_of_a_session_is_no_argument(execute, send, answers, id_):
    leave = f'echo "$@"; printf %s \'{id_}\' > "$MQ9_SESSION_FILE"'
    for _ in range(2):
        send()
        execute("sh", "-c", leave, *TALKING[3:])
    assert answers() == ["-\n"] * 2


def test_a_command_that_keeps_no_session_has_no_file_for_one(execute, send, answers):
    send()
    execute("sh", "-c", 'echo "${MQ9_SESSION_FILE-none}"')
    assert answers() == ["none\n"]


async def test_two_programs_take_turns_and_old_sessions_are_forgotten(tmp_path):
    one, other = (Sessions(tmp_path, "robot") for _ in range(2))
    one.prepare()
    async with one.turn("c") as session:
        waiting = asyncio.create_task(_id_of(other, "c"))
        assert await _id_of(other, "d") is None
        await asyncio.sleep(0)  # the other one looks
        session.store("s-1")
    assert await waiting == "s-1"
    [file] = [one for one in tmp_path.rglob("c") if one.is_file()]
    assert file.stat().st_mode & 0o777 == 0o600
    for days, found in ((29, "s-1"), (31, None)):
        then = time.time() - days * 86_400
        os.utime(file, (then, then))
        one.prepare()
        assert await _id_of(one, "c") == found


async def _id_of(sessions, conversation):
    async with sessions.turn(conversation) as session:
        return session.id


def test_brackets_and_braces_without_a_session_among_them_stay():
    words = ["sh", "[", "-f", "{file}", "]", "]", "["]
    assert Template(words, reads_file=False).arguments(file=None, session=None) == words


# As each host printed it: see tests/hosts for the hosts themselves.
PRINTED = {
    "claude": [
        {"type": "system", "session_id": "old"},
        {"type": "result", "session_id": "s-1", "result": "Done.", "is_error": False},
    ],
    "codex": [
        {"type": "thread.started", "thread_id": "s-1"},
        {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "I look."}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "Done."}},
        {"type": "turn.completed", "usage": {}},
    ],
    "copilot": [
        {"type": "user.message", "data": {"content": "Do it."}},
        {"type": "assistant.message", "data": {"content": "Done."}},
        {"type": "assistant.message", "data": {"content": ""}},
        {"type": "result", "sessionId": "s-1", "exitCode": 0},
    ],
    "cursor": [{"type": "result", "session_id": "s-1", "result": "Done."}],
    "gemini": [{"session_id": "s-1", "response": "Done.", "stats": {}}],
    "opencode": [
        {"type": "step_start", "sessionID": "s-1", "part": {"type": "step-start"}},
        {"type": "text", "sessionID": "s-1", "part": {"type": "text", "text": "Done."}},
    ],
}


@pytest.mark.parametrize("host", PRESETS)
def test_the_answer_of_a_host_is_its_last_word_and_its_session_goes_on(
    mq9, execute, send, answers, tmp_path, monkeypatch, host
):
    preset = PRESETS[host]
    program = tmp_path / "bin" / preset.begin[0]
    program.parent.mkdir()
    events = PRINTED[host]
    text = "\n".join(json.dumps(one, indent=2 if len(events) == 1 else None) for one in events)
    lines = ["#!/bin/sh", f'echo "$@" >> {tmp_path}/called', "echo a warning >&2"]
    program.write_text("\n".join([*lines, f"cat <<'END'\n{text}\nEND", ""]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for _ in range(2):
        send("Do it.")
        done = mq9(
            *("exec", "--agent", "robot", "--host", host, "--once", "--state", tmp_path / "state"),
            *("--", "--model", "small"),
        )
        assert done.code == 0, done.err
    assert answers() == ["Done.", "Done."]
    first, second = ((tmp_path / "called").read_text()).splitlines()
    own = [*preset.begin[1:], "--model", "small"]
    assert first.split()[: len(own)] == second.split()[: len(own)] == own
    assert "s-1" not in first
    assert "s-1" in second


def test_a_host_that_says_nothing_has_failed(mq9, execute, send, tmp_path, monkeypatch):
    (tmp_path / "gemini").write_text("#!/bin/sh\necho '{}'\n")
    (tmp_path / "gemini").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    send()
    done = mq9(*("exec", "--agent", "robot", "--host", "gemini", "--once", "--retries", "0"))
    assert done.code == 1
    [dead] = messages_in(mq9, "robot.dead")
    assert "no answer that this version reads" in dead["moved"]["reason"]
