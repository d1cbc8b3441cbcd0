"""The hooks by which a host is told of mail: planned, written, checked, and taken out again."""

import json
import re
import shlex
import tomllib
from dataclasses import replace

import pytest

from mcp_server.delivery.shapes import ASKS, PERMISSIONS
from mcp_server.hosts.delivery import DELIVERIES, Asking, plan_delivery, plan_delivery_undo
from mcp_server.hosts.delivery_check import delivery_check, permission_check
from mcp_server.hosts.entry import find_command, make_entry
from mcp_server.hosts.host import Launch
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo
from mq9 import InvalidRequest

NAMES = list(DELIVERIES)
APPROVED = ["claude-code", "codex", "gemini"]


def install(here, name, *, deliver=True, approve=False, asking=None, **options):
    given = {"server": "sqlite:////mail/mq9.db", "python": str(here.home / "python"), **options}
    entry = make_entry(HOSTS[name], here, **given)
    plan_install(entry, here).apply()
    for plan in plan_delivery(entry, here, deliver=deliver, approve=approve, asking=asking):
        plan.apply()
    return entry


def undo(here, name, **options):
    for plan in plan_delivery_undo(name, here, **options):
        plan.apply()
    plan_undo(HOSTS[name], here, **options).apply()


def hooks_file(here, name, content=None):
    path = DELIVERIES[name].file(here, "user")
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return path


def commands(value):
    """The commands of hooks, as words."""
    if isinstance(value, dict):
        if "args" in value:
            return [[value["command"], *value["args"]]]
        lines = [value[name] for name in ("command", "bash") if isinstance(value.get(name), str)]
        return [shlex.split(line) for line in lines] or commands(list(value.values()))
    return [one for inner in value for one in commands(inner)] if isinstance(value, list) else []


def files_below(root):
    return sorted(str(one.relative_to(root)) for one in root.rglob("*") if not one.is_dir())


# Hooks


@pytest.mark.parametrize("name", NAMES)
def test_each_event_runs_the_hook_of_the_agent(here, name):
    entry = install(here, name, agent="ann")
    hooks = json.loads(hooks_file(here, name).read_text())["hooks"]
    assert set(hooks) == set(DELIVERIES[name].events)
    for event, groups in hooks.items():
        first, *more = commands(groups)
        assert first == [entry.launch.command, "hook", name, event, "--agent", "ann"]
        assert all(one[1:] == ["watch", name, "--agent", "ann"] for one in more)


def test_claude_waits_for_mail_where_a_session_may_rest(here):
    install(here, "claude-code")
    hooks = json.loads(hooks_file(here, "claude-code").read_text())["hooks"]
    waits = {
        event: [one for group in groups for one in group["hooks"] if one.get("asyncRewake")]
        for event, groups in hooks.items()
    }
    assert [event for event, found in waits.items() if found] == ["SessionStart", "Stop"]


def test_a_line_for_a_shell_quotes_what_is_in_it(here, tmp_path):
    folder = tmp_path / "a place"
    folder.mkdir()
    program = folder / "mq9-mcp"
    program.write_text("")
    program.chmod(0o755)
    install(here, "codex", python=str(folder / "python"))
    hooks = json.loads(hooks_file(here, "codex").read_text())["hooks"]
    assert commands(hooks["Stop"])[0][0] == str(program)


def test_on_windows_powershell_calls_it(here, tmp_path):
    folder = tmp_path / "a place"
    folder.mkdir()
    program = folder / "mq9-mcp.exe"
    program.write_text("")
    program.chmod(0o755)
    windows = replace(here, platform="win32", environment={})
    install(windows, "copilot", python=str(folder / "python.exe"))
    [hook] = json.loads(hooks_file(windows, "copilot").read_text())["hooks"]["agentStop"]
    assert hook["powershell"].startswith(f'& "{program}" hook copilot agentStop')


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_not_written_twice(here, name):
    entry = install(here, name)
    again = plan_delivery(entry, here, deliver=True, approve=False)
    assert not any(plan.is_change for plan in again)


@pytest.mark.parametrize("name", NAMES)
def test_another_agent_takes_the_place_of_the_one_before(here, name):
    install(here, name)
    install(here, name, agent="ann")
    found = commands(json.loads(hooks_file(here, name).read_text())["hooks"])
    assert {words[-1] for words in found} == {"ann"}


@pytest.mark.parametrize("name", NAMES)
def test_undo_leaves_no_file_behind(here, name):
    before = files_below(here.home)
    install(here, name, approve=name in APPROVED)
    assert files_below(here.home) != before
    undo(here, name)
    assert files_below(here.home) == before


THEIRS = """\
{
  // mine
  "hooks": {
    "Stop": [{"hooks": [{"type": "command", "command": "play bell"}]}],
    "Other": [],
  },
  "version": 1,
}
"""


def test_the_hooks_of_others_stay_and_undo_gives_back_the_same_bytes(here):
    path = hooks_file(here, "claude-code", THEIRS)
    install(here, "claude-code", approve=True)
    shown = path.read_text()
    assert "// mine" in shown
    assert "play bell" in shown
    undo(here, "claude-code")
    assert path.read_text() == THEIRS


def test_undo_keeps_what_was_added_meanwhile(here):
    path = hooks_file(here, "codex")
    install(here, "codex")
    document = json.loads(path.read_text())
    document["hooks"]["Stop"].insert(0, {"hooks": [{"type": "command", "command": "bell"}]})
    path.write_text(json.dumps(document))
    undo(here, "codex")
    left = json.loads(path.read_text())
    assert left == {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "bell"}]}]}}


@pytest.mark.parametrize(
    ("content", "says"),
    [('{"hooks": []}', "'hooks' is not an object"), ('{"hooks": {"Stop": 1}}', "not a list")],
)
def test_what_cannot_be_changed_is_left_as_it_is(here, content, says):
    path = hooks_file(here, "codex", content)
    with pytest.raises(InvalidRequest, match=says):
        install(here, "codex")
    assert path.read_text() == content


def test_what_has_no_hooks_is_refused(here):
    with pytest.raises(InvalidRequest, match="deliver: continue has no hooks"):
        install(here, "continue")
    with pytest.raises(InvalidRequest, match="approve: cursor has no setting"):
        install(here, "cursor", approve=True)


# Permissions


def permission_commands(here, name):
    """The commands that ask, or say that it is over, by their events; and the host's timeouts."""
    hooks = json.loads(hooks_file(here, name).read_text())["hooks"]
    found = {
        event: [words for words in commands(groups) if words[1] == "permission"]
        for event, groups in hooks.items()
    }
    return {event: words[0][1:] for event, words in found.items() if words}


@pytest.mark.parametrize("name", PERMISSIONS)
def test_each_event_of_permissions_runs_the_hook_that_asks_the_person(here, name):
    install(here, name, deliver=False, asking=Asking("boss", 77), agent="ann")
    found = permission_commands(here, name)
    assert found.keys() == PERMISSIONS[name].keys()
    for event, words in found.items():
        asked = ["--approvals", "boss", "--wait", "77"]
        asks = PERMISSIONS[name][event] == ASKS
        assert words == ["permission", name, event, *(asked if asks else ()), "--agent", "ann"]
    document = hooks_file(here, name).read_text()
    assert re.search(r'"timeout(Sec)?": 107\b', document)  # the person's time, and some more


def test_a_person_has_more_time_where_the_hosts_own_prompt_is_open_meanwhile(here):
    for name, seconds in (("claude-code", "3600"), ("codex", "300")):
        install(here, name, deliver=False, asking=Asking("boss"))
        assert seconds in permission_commands(here, name)["PermissionRequest"]


@pytest.mark.parametrize("name", PERMISSIONS)
def test_hooks_for_mail_and_for_permissions_stand_beside_each_other(here, name):
    before = files_below(here.home)
    install(here, name)
    mail = json.loads(hooks_file(here, name).read_text())["hooks"]
    for person in ("boss", "ann"):  # the one takes the place of the other
        install(here, name, deliver=False, asking=Asking(person))
    both = json.loads(hooks_file(here, name).read_text())["hooks"]
    asked = [words for words in commands(both) if "--approvals" in words]
    assert [words[words.index("--approvals") + 1] for words in asked] == ["ann"]
    install(here, name)  # mail again, by itself
    assert json.loads(hooks_file(here, name).read_text())["hooks"].keys() == both.keys()
    assert [words for words in commands(mail) if words not in commands(both)] == []
    assert permission_commands(here, name)
    undo(here, name)
    assert files_below(here.home) == before


def test_undo_of_permissions_leaves_the_hooks_of_others(here):
    path = hooks_file(here, "claude-code", THEIRS)
    install(here, "claude-code", approve=True, asking=Asking("boss"))
    undo(here, "claude-code")
    assert path.read_text() == THEIRS


def test_hosts_without_a_hook_for_permissions_are_refused(here):
    for name in ("gemini", "cursor", "continue"):
        with pytest.raises(InvalidRequest, match=f"approvals: {name} has no hook for permissions"):
            install(here, name, deliver=False, asking=Asking("boss"))
    with pytest.raises(InvalidRequest, match="approvals: "):
        Asking("!")


# Approval


@pytest.mark.parametrize("name", APPROVED)
def test_tools_are_approved_in_the_words_of_the_host(here, name):
    install(here, name, deliver=False, approve=True)
    if name == "codex":
        config = tomllib.loads((here.home / ".codex/config.toml").read_text())
        assert config["mcp_servers"]["mq9"]["default_tools_approval_mode"] == "approve"
        return
    config = json.loads(hooks_file(here, name).read_text())
    if name == "gemini":
        assert config["mcpServers"]["mq9"]["trust"] is True
    else:
        assert config == {"permissions": {"allow": ["mcp__mq9"]}}


def test_an_approval_that_was_changed_meanwhile_stays(here):
    install(here, "codex", approve=True)
    path = here.home / ".codex/config.toml"
    path.write_text(path.read_text().replace('"approve"', '"prompt"'))
    for plan in plan_delivery_undo("codex", here):
        plan.apply()
    assert 'default_tools_approval_mode = "prompt"' in path.read_text()


def test_what_is_shown_of_a_shared_file_begins_with_the_entry(here):
    entry = make_entry(
        HOSTS["gemini"], here, server="sqlite:////m.db", python=str(here.home / "python")
    )
    plan = plan_install(entry, here)
    [settings] = plan_delivery(entry, here, deliver=False, approve=True, planned=plan.config)
    assert settings.config.before == plan.config.after
    added = [line for line in settings.diff.splitlines() if line.startswith("+ ")]
    assert [line.strip("+, ") for line in added if "trust" in line] == ['"trust": true']
    assert not any("command" in line for line in added)


# The doctor


def check(here, name, agent=None, arguments=(), program=None):
    command = str(find_command(here, str(here.home / "python"))) if program is None else program
    launch = Launch(command, ("--agent", name, *arguments))
    return delivery_check(name, "user", here, agent=agent or name, launch=launch)


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_says_when_a_session_is_told(here, name):
    assert "to be told of it by itself" in check(here, name).text
    install(here, name)
    found = check(here, name)
    if name == "codex":
        assert (found.state, "not trusted" in found.text) == ("warning", True)
        assert "Trust all and continue" in found.advice
    else:
        assert found.state == "ok"
        assert found.text.startswith(f"is told to a session {DELIVERIES[name].when}; mail from")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "from agents it has written to may begin turns: 3 in a row, 12 in an hour, 30 s"),
        (
            ("--wake-from", "everyone", "--wake-in-a-row=1"),
            "mail from everybody may .*: 1 in a row",
        ),
        (("--wake-from=ann", "--wake-from", "bob", "--wake-per-hour", "5"), "ann, bob .* 5 in an"),
        (("--wake-cooldown", "soon"), "its limits cannot be read"),
    ],
)
def test_the_doctor_shows_the_limits(here, arguments, says):
    install(here, "cursor")
    assert re.search(says, check(here, "cursor", arguments=arguments).text)


def test_the_doctor_sees_that_codex_trusts_each_hook(here):
    install(here, "codex")
    path = hooks_file(here, "codex").resolve()
    events = ["session_start", "user_prompt_submit", "post_tool_use", "stop"]
    for count in (3, 4):
        trusted = "".join(
            f'[hooks.state."{path}:{event}:0:0"]\ntrusted_hash = "sha256:0"\n'
            for event in events[:count]
        )
        (here.home / ".codex/config.toml").write_text(trusted)
        assert check(here, "codex").state == ("ok" if count == 4 else "warning")


@pytest.mark.parametrize("name", ["claude-code", "copilot"])
def test_the_doctor_knows_an_agent_whose_name_has_blanks(here, name):
    install(here, name, agent="ann b")
    assert check(here, name, "ann b").state == "ok"
    assert check(here, name, "ann").state == "warning"


def test_codex_trusts_hooks_by_their_places(here):
    bell = {"hooks": [{"type": "command", "command": "bell"}]}
    path = hooks_file(here, "codex", json.dumps({"hooks": {"Stop": [bell]}})).resolve()
    install(here, "codex")
    places = ["session_start:0", "user_prompt_submit:0", "post_tool_use:0", "stop:0"]
    for last, state in (("stop:0", "warning"), ("stop:1", "ok")):
        trusted = "".join(
            f'[hooks.state."{path}:{place}:0"]\ntrusted_hash = "sha256:0"\n'
            for place in [*places[:3], last]
        )
        (here.home / ".codex/config.toml").write_text(trusted)
        assert check(here, "codex").state == state


def check_permissions(here, name, agent=None, program=None):
    command = str(find_command(here, str(here.home / "python"))) if program is None else program
    launch = Launch(command, ("--agent", name))
    return permission_check(name, "user", here, agent=agent or name, launch=launch)


@pytest.mark.parametrize("name", PERMISSIONS)
def test_the_doctor_says_who_is_asked_for_permissions(here, name):
    install(here, name)
    assert check_permissions(here, name) is None  # nobody, and so there is nothing to say
    install(here, name, deliver=False, asking=Asking("the boss", 60))
    found = check_permissions(here, name)
    if name == "codex":
        assert (found.state, "not trusted: PermissionRequest" in found.text) == ("warning", True)
        path = hooks_file(here, name).resolve()
        (here.home / ".codex/config.toml").write_text(
            f'[hooks.state."{path}:permission_request:0:0"]\ntrusted_hash = "sha256:0"\n'
        )
        found = check_permissions(here, name)
    assert found.state == "ok"
    assert found.text == "are asked of the boss for 60 s, and then by the host itself"
    assert "of another agent than ann" in check_permissions(here, name, "ann").text
    assert "run another program" in check_permissions(here, name, program="/old").text


def test_the_doctor_sees_a_hook_for_permissions_that_is_missing(here):
    install(here, "claude-code", deliver=False, asking=Asking("boss"))
    path = hooks_file(here, "claude-code")
    document = json.loads(path.read_text())
    del document["hooks"]["PostToolUse"]
    path.write_text(json.dumps(document))
    found = check_permissions(here, "claude-code")
    assert "no hook of ours at PostToolUse" in found.text
    assert found.advice == "mq9-mcp install claude-code --approvals NAME"
    path.write_text("[")
    assert "cannot be read" in check_permissions(here, "claude-code").text
    assert permission_check("gemini", "user", here, agent="x", launch=None) is None


def test_the_doctor_sees_what_is_missing_or_of_another(here):
    install(here, "cursor")
    assert "of another agent than ann" in check(here, "cursor", "ann").text
    assert "run another program than /old" in check(here, "cursor", program="/old").text
    path = hooks_file(here, "cursor")
    document = json.loads(path.read_text())
    del document["hooks"]["stop"]
    path.write_text(json.dumps(document))
    assert "no hook of ours at stop" in check(here, "cursor").text
    path.write_text("[")
    assert "cannot be read" in check(here, "cursor").text
    assert check(here, "vscode") is None
