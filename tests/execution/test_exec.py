"""`mq9 exec`: what a command is given, and what follows from how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from execution.conftest import messages_in, start, started
from mq9 import Mq9Client
from mq9.cli.exec import worker
from mq9.cli.exec.environment import variables
from mq9.models import Message, MessageHeaders

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups"),
]

TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], sys.stdin.read(), {**os.environ}]))"


def told(text):
    arguments, body, environment = json.loads(text)
    return arguments, body, {k: v for k, v in environment.items() if k.startswith("MQ9_")}


@pytest.mark.quick
def test_a_command_gets_the_message_and_its_output_is_the_answer(mq9, execute, send, answers):
    options = ("--correlation-id", "q-1", "--from", "ada", "--header", "Trace-Parent: a b")
    send("hello", *options, "--answer-by", "2096-10-02T07:06:40+00:00")
    done = execute(sys.executable, "-c", TELL, "first", "$HOME")
    assert (done.code, done.out) == (0, "robot takes mail at robot\n")
    [text] = answers()
    arguments, body, own = told(text)
    assert (arguments, body) == (["first", "$HOME"], "hello")
    conversation = own.pop("MQ9_CONVERSATION")
    assert len(conversation) == 36
    assert own == {
        "MQ9_AGENT": "robot",
        "MQ9_ANSWER_BY": "4000000000",
        "MQ9_CORRELATION_ID": "q-1",
        "MQ9_DELIVERY": "1",
        "MQ9_HEADER_TRACE_PARENT": "a b",
        "MQ9_MAIL_ADDRESS": "robot",
        "MQ9_MSG_ID": "0",
        "MQ9_PRIORITY": "normal",
        "MQ9_REPLY_TO": "answers",
        "MQ9_SENDER": "ada",
        "MQ9_SENDER_VERIFIED": "false",
        "MQ9_SERVER": mq9.url,
    }
    [answer] = messages_in(mq9, "answers")
    assert (answer["correlation_id"], answer["from"], answer["path"]) == ("q-1", "robot", ["robot"])
    assert mq9.ok("status", "robot", "--group", "robot", "--json").document["group"]["acked"] == 1


def test_nothing_of_a_message_is_a_word_of_the_command_or_read_by_a_shell(
    execute, send, answers, tmp_path
):
    evil = f"$(touch {tmp_path}/evil); {{session}} {{file}}"
    send(evil, "--from", "$(id)", "--header", f"x: {evil}", "--correlation-id", "--help")
    execute("sh", "-c", 'echo "$#:$MQ9_SENDER:$MQ9_HEADER_X"; cat', "sh")
    assert answers() == [f"0:$(id):{evil}\n{evil}"]
    assert not (tmp_path / "evil").exists()


def test_the_body_may_come_by_a_file_that_nobody_else_reads(execute, send, answers):
    send("hello\0")
    execute("sh", "-c", 'cat; ls -l "$1" | cut -c1-10; echo "$1"; cat "$1"', "sh", "{file}")
    mode, path, body = answers()[0].split("\n")
    assert (mode, body) == ("-rw-------", "hello\0")
    assert not Path(path).exists()


def test_braces_stay_as_they_are_where_the_body_comes_by_standard_input(execute, send, answers):
    send("a b")
    execute("sh", "-c", 'echo "$1"; cat', "sh", "{file}", options=("--input", "stdin"))
    assert answers() == ["{file}\na b"]


def test_65_makes_a_dead_letter_and_the_sender_is_told_why(mq9, execute, send):
    send()
    done = execute("sh", "-c", "echo no contract of ours; echo secret >&2; exit 65")
    assert done.code == 1
    [dead] = messages_in(mq9, "robot.dead")
    assert dead["moved"]["reason"] == "no contract of ours"
    [answer] = messages_in(mq9, "answers")
    assert json.loads(answer["payload"])["reason"] == "no contract of ours"


def test_other_codes_are_tried_again_and_in_the_end_are_dead_letters(mq9, execute, send):
    send()
    failing = ("sh", "-c", "echo no disk >&2; exit 3")
    done = execute(*failing, messages=3, options=("--retries", "2"))
    assert (done.code, done.err.count("no disk")) == (1, 6)  # as the reason, and as the output
    [dead] = messages_in(mq9, "robot.dead")
    assert dead["moved"]["reason"] == "CommandFailed: exit code 3: no disk"
    [answer] = messages_in(mq9, "answers")
    assert json.loads(answer["payload"])["reason"] == "CommandFailed"


def test_a_program_that_cannot_be_run_is_tried_again(execute, send, tmp_path):
    program = tmp_path / "gone"
    program.write_text('#!/bin/sh\nrm -- "$0"; exit 1\n')
    program.chmod(0o755)
    send()
    done = execute(program, messages=2)
    assert 'how="exit code 127"' in done.err


def test_a_command_that_succeeds_later_answers_once(execute, send, answers, tmp_path):
    send()
    script = f'echo >> {tmp_path}/tries; [ "$MQ9_DELIVERY" = 3 ] && echo third'
    assert execute("sh", "-c", script, messages=3).code == 1
    assert answers() == ["third\n"]
    assert (tmp_path / "tries").read_text() == "\n" * 3


def test_a_long_output_is_cut_between_characters_and_said_to_be(mq9, execute, send, answers):
    send()
    execute(sys.executable, "-c", "print('ä' * 50_000)", options=("--max-output", "101"))
    assert answers() == ["ä" * 50]
    assert messages_in(mq9, "answers")[0]["headers"] == {"truncated": "100001"}


def test_a_command_need_not_read_nor_wait_for_what_it_leaves_behind(execute, send, answers):
    send("x" * 500_000)
    execute("sh", "-c", "sleep 600 & echo $!")
    [pid] = answers()
    assert not is_alive(int(pid))


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(worker, "GRACE_S", 0.2)


STUBBORN = "trap '' TERM; sleep 600 & echo $$ $! > {0}; wait; wait"
GENTLE = "trap 'echo told > {0}.told; exit 1' TERM; sleep 600 & echo $$ $! > {0}; wait"


def pids(file):
    return [int(one) for one in file.read_text().split()] if file.exists() else []


def is_alive(pid):
    """Tell whether a process runs; one that nobody has asked for its end does not."""
    done = subprocess.run(
        ["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1] not in {"", "Z"}


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("script", [STUBBORN, GENTLE])
def test_the_group_of_a_command_that_takes_too_long_is_ended(execute, send, tmp_path, script):
    file = tmp_path / "pids"
    send()
    done = execute("sh", "-c", script.format(file), options=("--timeout", "0.5"))
    assert "the command took longer than 0.5 s" in done.err
    assert len(pids(file)) == 2
    assert not any(map(is_alive, pids(file)))
    assert (tmp_path / "pids.told").exists() is (script is GENTLE)


@pytest.mark.usefixtures("short_grace")
async def test_a_command_ends_when_its_message_is_taken_away(mq9, execute, send, tmp_path):
    file = tmp_path / "pids"
    await asyncio.to_thread(send)
    command = ("sh", "-c", GENTLE.format(file))
    running = asyncio.create_task(
        started(mq9.url, tmp_path, "--lease", "1", "--once", "--", *command)
    )
    await until(lambda: len(pids(file)) == 2)
    async with Mq9Client(mq9.url) as client:
        await client.delete("robot", 0)
    done = await running
    assert "the lease was lost while the command ran" in done.err
    assert not any(map(is_alive, pids(file)))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the guard is killed last")
@pytest.mark.parametrize("victim", ["exec", "guard", "both", "paused"])
@pytest.mark.quick
async def test_the_whole_group_ends_with_whatever_is_killed(mq9, send, tmp_path, victim):
    file = tmp_path / "pids"
    await asyncio.to_thread(mq9.ok, "create", "robot")
    await asyncio.to_thread(send)
    command = ("sh", "-c", f"sleep 600 & echo $$ $! $PPID > {file}; wait")
    lease = "1" if victim == "paused" else "600"
    program = await start(mq9.url, tmp_path, "--lease", lease, "--", *command)
    await until(lambda: len(pids(file)) == 3)
    shell, sleeping, guard = pids(file)
    if victim == "paused":
        program.send_signal(signal.SIGSTOP)
    if victim in {"exec", "both"}:
        program.kill()
    if victim in {"guard", "both"}:
        os.kill(guard, signal.SIGKILL)
    # With both nobody is left to end a process that the command has started.
    ended = [shell] if victim == "both" else [shell, sleeping]
    try:
        await until(lambda: not any(map(is_alive, ended)), seconds=20)
    finally:
        for one in (sleeping, program.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        await program.communicate()


async def test_sigterm_lets_a_command_end_and_gives_back_what_does_not(mq9, tmp_path):
    await asyncio.to_thread(mq9.ok, "create", "robot")
    go_on = tmp_path / "go on"
    script = f'echo > {tmp_path}/"$MQ9_MSG_ID"; while ! [ -e "{go_on}" ]; do sleep 0.05; done; cat'
    async with Mq9Client(mq9.url) as client:
        await client.send("robot", "quick", reply_to="answers")
        program = await start(mq9.url, tmp_path, "--stop-timeout", "30", "--", "sh", "-c", script)
        await until((tmp_path / "0").exists)
        program.terminate()
        go_on.touch()
        await program.communicate()
        assert program.returncode == 0
        assert [one.text for one in await client.query("answers")] == ["quick"]
        go_on.unlink()
        await client.send("robot", "slow", reply_to="answers")
        program = await start(mq9.url, tmp_path, "--stop-timeout", "0.1", "--", "sh", "-c", script)
        await until((tmp_path / "1").exists)
        program.terminate()
        _, err = await program.communicate()
        assert (program.returncode, b"stopped" in err) == (0, True)
        [again] = await client.fetch("robot", group_name="robot", max_wait_ms=0)
        assert (again.text, again.delivery_count) == ("slow", 2)


def test_a_conversation_that_goes_in_a_circle_is_stopped(mq9, execute):
    async def send_on(client):
        await client.send("robot", "x", path=["robot", "ada", "bob"])
        await client.send("robot", "y")

    mq9.sdk(send_on)
    execute("true")
    [dead] = messages_in(mq9, "robot.dead")
    assert dead["moved"]["reason"].startswith("a circle")


def test_an_agent_with_capabilities_is_found(mq9, execute, send):
    send()
    execute("true", options=("--capabilities", "Reviews pull requests"))
    [found] = mq9.ok("agents", "pull requests", "--json").document["agents"]
    assert (found["name"], found["mailbox"]) == ("robot", "robot")


def test_commands_run_side_by_side(execute, send, answers, tmp_path):
    for _ in range(3):
        send()
    # None ends before all have begun.
    script = 'touch "$1.$MQ9_MSG_ID"; while [ "$(ls "$1".* | wc -l)" -lt 3 ]; do sleep 0.05; done'
    execute(
        *("sh", "-c", script, "sh", tmp_path / "begun"),
        messages=3,
        options=("--concurrency", "3", "--timeout", "30"),
    )
    assert answers() == [""] * 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "command: none is given"),
        (["no-such-program"], "program 'no-such-program' was not found in PATH"),
        (["cat", "{session}"], "put the arguments with {session} between"),
        (["--input", "file", "cat"], "write {file}"),
        (["--input", "post", "cat"], "'post' is neither stdin nor file"),
        (["--session", "s-1", "cat"], "session: 's-1' is not a session id"),
        (["--session", "-s", "cat", "[", "{session}", "]"], "session: '-s' is not a session id"),
        (["--host", "emacs"], "'emacs' is not one of claude, codex"),
        (["--timeout", "0", "cat"], "timeout: "),
        (["--from", "everyone", "--from", "ada", "cat"], "leaves nobody"),
    ],
)
def test_what_cannot_be_is_refused_at_once(mq9, words, complaint):
    done = mq9("exec", "--agent", "robot", *words)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


def test_what_a_process_says_of_brokers_is_not_for_its_commands():
    inherited = {"PATH": "/bin", "MQ9_AUTH_TOKEN": "s", "NATS_CREDS": "s", "MQ9_HEADER_OLD": "s"}
    message = Message(
        msg_id=7, payload=b"", create_time=0, headers=MessageHeaders({"a.b-c": "x\0y"})
    )
    url = "tls://ada:secret@one:4222,two:4222?tls_cert=secret.pem"
    made = variables(message, agent="robot", server=url, conversation="c", inherited=inherited)
    assert "s" not in made.values()
    assert made["PATH"] == "/bin"
    assert made["MQ9_SERVER"] == "tls://one:4222,tls://two:4222"
    assert made["MQ9_HEADER_A_B_C"] == "x\N{REPLACEMENT CHARACTER}y"
