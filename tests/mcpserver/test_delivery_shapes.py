"""The shapes of hosts' hooks: what they say, and what they are told."""

import json

import pytest
from calling import mq9_mcp

from mcp_server.delivery.hook import split
from mcp_server.delivery.shapes import (
    EVENTS,
    PROMPT,
    START,
    STOP,
    TOOL,
    WAKEABLE,
    read_event,
    write_answer,
)
from mcp_server.delivery.watch import is_attended
from mcp_server.hosts.known import HOSTS

SESSIONS = {"copilot": "sessionId", "cursor": "conversation_id"}
ALL = [(host, event) for host, events in EVENTS.items() for event in events]


def event_of(host, occasion):
    return next(event for event, one in EVENTS[host].items() if one == occasion)


def read(host, event, **document):
    return read_event(host, event, {SESSIONS.get(host, "session_id"): "one", **document})


def test_the_hosts_are_those_that_are_installed_in():
    assert EVENTS.keys() <= HOSTS.keys()
    assert set(WAKEABLE) <= EVENTS.keys()


@pytest.mark.parametrize(("host", "event"), ALL)
def test_each_event_has_its_occasion_and_says_nothing_where_there_is_nothing(host, event):
    call = read(host, event)
    assert (call.session, call.occasion, call.continued) == ("one", EVENTS[host][event], False)
    assert write_answer(host, event, None) == ""


@pytest.mark.parametrize(("host", "event"), ALL)
def test_what_a_model_is_told_stands_once_in_what_is_printed(host, event):
    printed = write_answer(host, event, "mq9: “news”")
    assert json.dumps("mq9: “news”") in printed
    assert printed.count("news") == 1
    assert "systemMessage" not in printed


@pytest.mark.parametrize(
    ("host", "occasion", "said"),
    [
        (
            "claude-code",
            STOP,
            {"hookSpecificOutput": {"hookEventName": "Stop", "additionalContext": "x"}},
        ),
        ("codex", STOP, {"decision": "block", "reason": "x"}),
        (
            "codex",
            TOOL,
            {"hookSpecificOutput": {"hookEventName": "PostToolUse", "additionalContext": "x"}},
        ),
        ("gemini", STOP, {"decision": "block", "reason": "x"}),
        (
            "gemini",
            PROMPT,
            {"hookSpecificOutput": {"hookEventName": "BeforeAgent", "additionalContext": "x"}},
        ),
        ("copilot", START, {"additionalContext": "x"}),
        ("copilot", STOP, {"decision": "block", "reason": "x"}),
        ("cursor", TOOL, {"additional_context": "x"}),
        ("cursor", STOP, {"followup_message": "x"}),
    ],
)
def test_each_host_has_its_shape(host, occasion, said):
    assert json.loads(write_answer(host, event_of(host, occasion), "x")) == said


@pytest.mark.parametrize("host", ["claude-code", "codex", "gemini"])
def test_a_person_is_told_beside_the_model(host):
    event = event_of(host, STOP)
    assert json.loads(write_answer(host, event, None, "y")) == {"systemMessage": "y"}
    both = json.loads(write_answer(host, event, "x", "y"))
    assert both.pop("systemMessage") == "y"
    assert both == json.loads(write_answer(host, event, "x"))


@pytest.mark.parametrize(
    ("prompt", "occasion"),
    [
        ("mq9 is down", PROMPT),
        ("", PROMPT),
        (None, PROMPT),
        ("mq9: 1 message waits in your mailbox.", TOOL),
        ("\n<task-notification>\n<summary>", TOOL),
        ('<hook_prompt hook_run_id="stop:3">mq9: ', TOOL),
        ("<hook_context>mq9: 1 message</hook_context>\n\nmq9: 1 message", TOOL),
        ("<hook_context>mq9: 1 message</hook_context>\n\ngo on", PROMPT),
    ],
)
def test_what_continues_or_wakes_a_session_is_no_prompt_of_a_person(prompt, occasion):
    assert read("gemini", "BeforeAgent", prompt=prompt).occasion == occasion


@pytest.mark.parametrize(
    ("document", "continued"),
    [
        ({}, False),
        ({"stop_hook_active": False}, False),
        ({"stop_hook_active": "false"}, False),
        ({"stop_hook_active": ""}, False),
        ({"stop_hook_active": True}, True),
        ({"stop_hook_active": ["true"]}, False),
        ({"status": "completed"}, False),
        ({"status": "aborted"}, True),
        ({"loop_count": 0}, False),
        ({"loop_count": 1}, True),
    ],
)
def test_a_turn_that_a_hook_has_continued_is_known(document, continued):
    assert read("cursor", "stop", **document).continued is continued


def test_a_session_that_was_made_shorter_does_not_begin():
    assert read("claude-code", "SessionStart", source="resume").occasion == START
    assert read("claude-code", "SessionStart", source="compact").occasion == TOOL


def test_a_subagent_is_not_told_in_place_of_the_session():
    assert read("claude-code", "PostToolUse", agent_id="7") is None
    assert read("claude-code", "PostToolUse", agent_id="") is not None


@pytest.mark.parametrize("session", [None, "", 7, "x" * 129, ["one"], {}])
def test_what_names_no_session_is_passed_over(session):
    assert read_event("codex", "Stop", {"session_id": session}) is None


def test_only_a_session_in_a_terminal_is_watched():
    assert is_attended({})
    assert is_attended({"CLAUDE_CODE_ENTRYPOINT": "cli", "CLAUDE_CODE_SESSION_ATTENDED": "1"})
    assert not is_attended({"CLAUDE_CODE_ENTRYPOINT": "sdk-cli"})
    assert not is_attended({"CLAUDE_CODE_SESSION_ATTENDED": "0"})


def test_a_command_line_is_read_in_any_order():
    words = ["--agent=desk", "codex", "--session", "one", "Stop", "--else"]
    assert split(words, ("agent", "session")) == (
        ["codex", "Stop", "--else"],
        {"agent": "desk", "session": "one"},
    )
    assert split(["--agent"], ("agent",)) == ([], {})


def test_the_commands_of_the_program_do_the_same():
    said = '{"session_id": "one"}'
    done = mq9_mcp("hook", "codex", "Stop", "--agent", "nobody", stdin=said)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = mq9_mcp("watch", "gemini", "--agent", "nobody", "--session", "one")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: write mq9-mcp watch HOST")
