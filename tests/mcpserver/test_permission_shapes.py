"""The shapes in which hosts ask for permissions, and in which they hear of decisions."""

import json

import pytest
from calling import mq9_mcp

from mcp_server.delivery.permission import run
from mcp_server.delivery.rules import PROPOSED_AFTER, rule_for
from mcp_server.delivery.shapes import (
    ASKS,
    EDITABLE,
    PERMISSIONS,
    read_permission,
    write_permission,
)
from mcp_server.hosts.delivery import DELIVERIES

EVENT_OF = {
    host: next(event for event, what in events.items() if what == ASKS)
    for host, events in PERMISSIONS.items()
}
ALLOW = {"behavior": "allow", "args": None}
DENY = {"behavior": "deny", "message": "boss said no."}


def asked(tool="Bash", args=None, **more):
    return read_permission(
        {"session_id": "one", "tool_name": tool, "tool_input": args or {"command": "ls"}, **more}
    )


def printed(host, answer):
    text = write_permission(host, EVENT_OF[host], answer)
    return json.loads(text) if text else None


def test_the_hosts_are_those_whose_hooks_are_written():
    assert PERMISSIONS.keys() <= DELIVERIES.keys()
    assert set(EDITABLE) <= PERMISSIONS.keys()


@pytest.mark.parametrize("host", PERMISSIONS)
def test_a_decision_is_printed_as_the_host_wants_it(host):
    def shaped(decision):
        if host == "copilot":
            return decision
        return {"hookSpecificOutput": {"hookEventName": EVENT_OF[host], "decision": decision}}

    assert printed(host, ALLOW) == shaped({"behavior": "allow"})
    assert printed(host, DENY) == shaped(DENY)
    edited = printed(host, {**ALLOW, "args": {"command": "ls -l"}})
    updated = {"updatedInput": {"command": "ls -l"}} if host in EDITABLE else {}
    assert edited == shaped({"behavior": "allow", **updated})


@pytest.mark.parametrize("host", PERMISSIONS)
@pytest.mark.parametrize("answer", [{}, {"behavior": "ask"}, {"behavior": None}], ids=str)
def test_without_a_decision_nothing_is_printed_so_that_the_host_asks(host, answer):
    assert printed(host, answer) is None


def test_the_user_is_told_why_nobody_was_asked_where_the_host_has_a_way():
    answer = {"person": "mq9: boss was not asked: no"}
    told = {host for host in PERMISSIONS if printed(host, answer)}
    assert told == {"claude-code", "codex", "qwen"}
    assert printed("codex", answer) == {"systemMessage": "mq9: boss was not asked: no"}


def test_copilot_names_it_in_its_own_way():
    found = read_permission(
        {"sessionId": "one", "toolName": "bash", "toolInput": {"command": "touch x"}}
    )
    assert (found.session, found.tool, found.args) == ("one", "bash", {"command": "touch x"})


@pytest.mark.parametrize(
    "document",
    [
        {"session_id": None},
        {"tool_name": 7},
        {"tool_name": ""},
        {"tool_name": "x" * 257},
        {"tool_input": ["ls"]},
        {"tool_name": "AskUserQuestion"},
    ],
    ids=str,
)
def test_what_is_no_yes_or_no_is_not_asked(document):
    assert asked(**document) is None


def test_the_same_action_in_other_words_is_the_same():
    one = asked(args={"command": "ls", "description": "look"})
    assert one.why == "look"
    assert one.action == asked(args={"description": "look again", "command": "ls"}).action
    others = [asked(args={"command": "ls -l"}), asked("Shell", {"command": "ls"})]
    assert one.action not in {other.action for other in others}


@pytest.mark.parametrize(
    "args",
    [
        {"content": "\U0001f600" * 200_000},
        {"items": ["x" * 50] * 10_000},
        {f"name{number}": number for number in range(50_000)},
        {"deep": json.loads("[" * 300 + "]" * 300)},
        {"x" * 100_000: 1},
    ],
    ids=["text", "list", "names", "deep", "name"],
)
def test_arguments_are_bounded_and_their_size_does_not_hide_what_they_are(args):
    found = asked("Write", args)
    assert len(json.dumps(found.args)) < 600_000
    assert found.cut > 0 or "deep" in args
    assert found.action == asked("Write", args).action


def test_what_is_nested_too_deeply_to_be_read_is_left_to_the_host():
    inner = []
    for _ in range(100_000):
        inner = [inner]
    assert asked(args={"deep": inner}) is None


@pytest.mark.parametrize(
    ("host", "tool", "args", "line"),
    [
        ("claude-code", "Bash", {"command": "npm test"}, "Bash(npm test)"),
        ("claude-code", "Bash", {"command": "ls *"}, None),
        ("claude-code", "Bash", {"command": "a\nb"}, None),
        ("claude-code", "Bash", {"command": "x" * 201}, None),
        ("claude-code", "mcp__mail__send", {"to": "x"}, "mcp__mail__send"),
        ("claude-code", "Write", {"file_path": "/x"}, None),
        (
            "codex",
            "Bash",
            {"command": "npm run test"},
            'prefix_rule(pattern=["npm", "run", "test"], decision="allow")',
        ),
        ("codex", "Bash", {"command": "npm test && rm x"}, None),
        ("codex", "apply_patch", {"command": "x"}, None),
        ("qwen", "run_shell_command", {"command": "npm test"}, None),
    ],
)
def test_a_rule_is_proposed_where_the_host_has_one_for_just_that(host, tool, args, line):
    assert rule_for(host, tool, args, PROPOSED_AFTER - 1) is None
    rule = rule_for(host, tool, args, PROPOSED_AFTER)
    assert (None if rule is None else rule.line) == line
    assert rule is None or (rule.line in rule.text and rule.file in rule.text)


@pytest.mark.parametrize(
    "words",
    [
        ["permission"],
        ["permission", "claude-code", "Stop", "--agent", "desk"],
        ["permission", "gemini", "BeforeTool", "--agent", "desk"],
        ["permission", "codex", "PermissionRequest", "--agent", "desk", "--approvals", "boss"],
        [
            *("permission", "codex", "PermissionRequest", "--agent", "desk"),
            *("--approvals", "boss", "--wait", "soon"),
        ],
    ],
    ids=len,
)
def test_a_wrong_command_line_is_told_and_decides_nothing(words, monkeypatch, capsys):
    monkeypatch.delenv("MQ9_AGENT", raising=False)
    assert run(words[1:]) == 1
    assert capsys.readouterr().out == ""


def test_its_help_says_what_it_does():
    assert "Ask a person by mail" in mq9_mcp("permission", "--help").out
