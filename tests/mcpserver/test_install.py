"""The entry in a host's configuration: planned, shown, written, and taken out again."""

import json
import os
import stat
import sys
from dataclasses import replace

import pytest

from mcp_server.hosts import plan as plans
from mcp_server.hosts.entry import find_command, make_entry
from mcp_server.hosts.host import Launch
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo
from mq9 import InvalidRequest

CURSOR = HOSTS["cursor"]
URL = "sqlite:////mail/mq9.db"


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def entry_for(host, here, **options):
    return make_entry(host, here, **{"server": URL, "python": str(here.home / "python"), **options})


def config(here, content=None, host=CURSOR):
    path = host.file(here)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def install(here, host=CURSOR, **options):
    plan_install(entry_for(host, here, **options), here).apply()


def undo(here, host=CURSOR, key="mq9"):
    plan_undo(host, here, key=key).apply()


def files_below(root):
    return sorted(str(one.relative_to(root)) for one in root.rglob("*") if not one.is_dir())


# What a host is told


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("claude-code", {"type": "stdio"}),
        ("vscode", {"type": "stdio"}),
        ("copilot", {"type": "local", "tools": ["*"]}),
        ("cline", {}),
        ("continue", {}),
    ],
)
def test_each_host_is_told_in_its_own_way(here, name, members):
    entry = entry_for(HOSTS[name], here)
    launch = {
        "command": entry.launch.command,
        "args": list(entry.launch.arguments),
        "env": {"MQ9_SERVER": URL},
    }
    assert json.loads(entry.text) == {HOSTS[name].servers_key: {"mq9": members | launch}}
    assert Launch.read(entry.value) == entry.launch


def test_opencode_has_one_list(here):
    entry = entry_for(HOSTS["opencode"], here)
    assert entry.value == {
        "type": "local",
        "command": [entry.launch.command, "--agent", "opencode"],
        "environment": {"MQ9_SERVER": URL},
    }
    assert Launch.read(entry.value) == entry.launch


@pytest.mark.parametrize("query", ["", "?durability=full"])
def test_a_file_is_named_so_that_every_directory_will_do(here, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    entry = entry_for(CURSOR, here, server=f"sqlite:///my mail.db{query}")
    path = tmp_path.as_posix() + "/my%20mail.db"
    assert entry.value["env"] == {"MQ9_SERVER": f"sqlite:///{path}{query}"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"agent": ""}, "agent"),
        ({"agent": "日本"}, "has no letter a-z"),
        ({"server": "http://host"}, "server: 'http://host' is not a URL that"),
        ({"server": ""}, "server"),
        ({"server": None}, "server: it is not given"),
        ({"server": "memory://x"}, "server: 'memory://x' ends with its process"),
        ({"key": ""}, "key: '' is not 1 to 64"),
        ({"key": "my server"}, "key: 'my server'"),
        ({"key": "k" * 65}, "key: 'kkk"),
        ({"options": ["--tools", "\udcff"]}, "entry: .* cannot be written as UTF-8"),
    ],
)
def test_what_a_host_could_not_use_is_refused(here, wrong, says):
    with pytest.raises(InvalidRequest, match=says):
        entry_for(CURSOR, here, **wrong)


# The program


def test_the_program_beside_the_running_python_comes_first(here, tmp_path):
    program(tmp_path / "base" / "python")
    venv = tmp_path / "venv" / "bin"
    mine = program(venv / "mq9-mcp")
    (venv / "python").symlink_to(tmp_path / "base" / "python")
    assert find_command(here, str(venv / "python")) == mine


def test_on_windows_it_is_an_exe_and_its_backslashes_survive(here, tmp_path):
    folder = tmp_path / r"C:\Users\Ann\new\Scripts"
    mine = program(folder / "mq9-mcp.exe")
    windows = replace(here, platform="win32", environment={})
    install(windows, host=HOSTS["vscode"], python=str(folder / "python.exe"))
    path = HOSTS["vscode"].file(windows)
    assert path == here.home / "AppData" / "Roaming" / "Code" / "User" / "mcp.json"
    assert json.loads(path.read_bytes())["servers"]["mq9"]["command"] == str(mine)
    assert rb"C:\\Users\\Ann\\new\\Scripts" in path.read_bytes()


def test_no_program_that_could_not_be_started_is_written(here, tmp_path, monkeypatch):
    (tmp_path / "folder" / "mq9-mcp").mkdir(parents=True)
    program(tmp_path / "unfit" / "mq9-mcp").chmod(0o644)
    program(tmp_path / "relative" / "mq9-mcp")
    monkeypatch.chdir(tmp_path)
    places = [str(tmp_path / "folder"), str(tmp_path / "unfit"), "relative", ""]
    nowhere = replace(here, environment={"PATH": os.pathsep.join(places)})
    with pytest.raises(InvalidRequest, match="command: there is no mq9-mcp beside /none/python"):
        find_command(nowhere, "/none/python")
    with pytest.raises(InvalidRequest, match="command: there is no mq9-mcp beside"):
        find_command(replace(here, environment={}), "")


def test_a_program_in_a_cache_is_not_written(here, tmp_path):
    mine = program(tmp_path / "uv" / "archive-v0" / "x1" / "bin" / "mq9-mcp")
    with pytest.raises(InvalidRequest, match="mq9-mcp is in the cache of uv, which is cleared"):
        find_command(here, str(mine.with_name("python")))


# Writing


@pytest.mark.parametrize("name", list(HOSTS))
@pytest.mark.parametrize("scope", ["user", "project"])
def test_every_host_gets_it_and_loses_it(here, name, scope):
    host = HOSTS[name]
    entry = entry_for(host, here, scope=scope, server=None if scope == "project" else URL)
    if not host.project_files and scope == "project":
        with pytest.raises(InvalidRequest, match="project: "):
            plan_install(entry, here)
        return
    plan_install(entry, here).apply()
    path = host.file(here, scope)
    assert host.text.parse(path.read_text()) == {host.servers_key: {"mq9": entry.value}}
    assert not plan_install(entry, here).is_change
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plan_undo(host, here, scope=scope).apply()
    assert files_below(path.parent) == []


BEFORE = """{
    "theme": "dünkel",
    "mcpServers": {
        "files": {"command": "files", "args": ["-v"]},
        "empty": {}
    },
    "zoom": 1.50
}"""


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_what_was_there_is_kept_to_the_byte(here, mark, line_end, indent, end):
    def spelled(text):
        return (mark + (text + end).replace("    ", indent).replace("\n", line_end)).encode()

    path = config(here, spelled(BEFORE))
    entry = entry_for(CURSOR, here)
    plan_install(entry, here).apply()
    ours = json.dumps({"mq9": entry.value}, indent=4)[2:-2].replace("\n", "\n    ")
    assert path.read_bytes() == spelled(
        BEFORE.replace('"empty": {}', f'"empty": {{}},\n    {ours}')
    )
    undo(here)
    assert path.read_bytes() == spelled(BEFORE)


def test_a_plan_shows_what_it_will_do_and_has_done_nothing(here):
    path = config(here, BEFORE)
    before = files_below(here.home)
    plan = plan_install(entry_for(CURSOR, here), here)
    assert plan.is_change
    assert (plan.host, plan.path) == (CURSOR, path)
    lines = plan.diff.split("\n")
    assert lines[:2] == [f"--- {path} (now)", f"+++ {path} (then)"]
    assert [one for one in lines[2:] if one.startswith("-")] == ['-        "empty": {}']
    added = [one for one in lines[2:] if one.startswith("+")]
    assert added[:2] == ['+        "empty": {},', '+        "mq9": {']
    assert len(added) == 11
    assert path.read_text() == BEFORE
    assert files_below(here.home) == before


def test_a_diff_says_where_there_is_no_file(here):
    assert plan_install(entry_for(CURSOR, here), here).diff.startswith("--- (no file)\n+++ /")
    install(here)
    assert plan_undo(CURSOR, here).diff.split("\n")[1] == "+++ (no file)"


def test_a_diff_of_other_line_ends_shows_only_what_changes(here):
    config(here, ("\ufeff" + BEFORE.replace("\n", "\r\n")).encode())
    crlf = plan_install(entry_for(CURSOR, here), here).diff
    config(here, BEFORE)
    assert crlf == plan_install(entry_for(CURSOR, here), here).diff


def test_an_entry_that_says_the_same_is_left_as_it_is_written(here):
    entry = entry_for(CURSOR, here)
    path = config(here, json.dumps({"mcpServers": {"mq9": entry.value}}))
    before = path.read_bytes()
    plan_install(entry, here).apply()
    assert path.read_bytes() == before
    assert files_below(path.parent) == ["mcp.json"]  # nothing is remembered: nothing was done


@pytest.mark.parametrize("blank", ["", "\n", "{}", "{}\n"])
def test_an_empty_configuration_is_filled(here, blank):
    path = config(here, blank)
    entry = entry_for(CURSOR, here)
    plan_install(entry, here).apply()
    assert json.loads(path.read_bytes()) == {"mcpServers": {"mq9": entry.value}}
    undo(here)
    assert path.read_text().strip() == "{}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{\n  // mine\n  "mcpServers" {}\n}', "not JSON.*line 3"),
        ('{"mcpServers": {},,}', "not JSON"),
        ('{"mcpServers": {}, "mcpServers": {}}', "stands twice"),
        ('{"mcpServers": {"mq9": {}, "mq9": {}}}', "stands twice"),
        ('{"mcpServers": "none"}', "'mcpServers' is not an object"),
        ("[]", "not an object"),
    ],
)
def test_what_cannot_be_changed_safely_is_left_and_the_entry_given(here, content, says):
    path = config(here, content)
    entry = entry_for(CURSOR, here)
    with pytest.raises(InvalidRequest, match=says) as caught:
        plan_install(entry, here)
    assert str(path) in str(caught.value)
    before, _, paste = str(caught.value).partition(", and add ")
    assert before.endswith("It was left as it is; edit it by hand")
    assert json.loads(paste) == json.loads(entry.text)
    assert "\n" not in paste
    assert path.read_text() == content
    assert files_below(path.parent) == ["mcp.json"]


def test_what_is_not_utf8_is_refused(here):
    path = config(here, '{"a": "ü"}'.encode("utf-16"))
    with pytest.raises(InvalidRequest, match="is not UTF-8: byte 0"):
        plan_install(entry_for(CURSOR, here), here)
    assert path.read_bytes() == '{"a": "ü"}'.encode("utf-16")


def test_what_is_no_file_is_refused(here):
    config(here).mkdir(parents=True)
    with pytest.raises(InvalidRequest, match=r"mcp\.json is not a file"):
        plan_install(entry_for(CURSOR, here), here)


def test_a_file_in_the_place_of_a_directory_is_refused(here):
    here.home.mkdir()
    (here.home / ".cursor").write_text("")
    with pytest.raises(InvalidRequest, match=r"mcp\.json cannot be read: Not a directory"):
        plan_install(entry_for(CURSOR, here), here)


def test_what_is_too_large_is_refused(here, monkeypatch):
    config(here, "{}" + " " * 20)
    monkeypatch.setattr(plans, "MOST_BYTES", 21)
    with pytest.raises(InvalidRequest, match="has more than 21 bytes"):
        plan_install(entry_for(CURSOR, here), here)


# On the disk


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_is_kept(here, mode):
    path = config(here, BEFORE)
    path.chmod(mode)
    install(here)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_changed(here, tmp_path, is_there):
    target = tmp_path / "dotfiles" / "cursor.json"
    if is_there:
        target.parent.mkdir()
        target.write_text(BEFORE)
    link = config(here)
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    plan = plan_install(entry_for(CURSOR, here), here)
    assert plan.path == target
    plan.apply()
    assert link.is_symlink()
    assert "mq9" in json.loads(target.read_text())["mcpServers"]
    undo(here)
    assert link.is_symlink()
    assert files_below(tmp_path / "dotfiles") == (["cursor.json"] if is_there else [])
    assert not is_there or target.read_text() == BEFORE


def test_links_in_a_circle_are_refused(here):
    link = config(here)
    link.parent.mkdir(parents=True)
    link.symlink_to(link)
    with pytest.raises(InvalidRequest, match="is a link that leads nowhere"):
        plan_install(entry_for(CURSOR, here), here)


@pytest.mark.parametrize(("before", "then"), [(BEFORE, b"{}"), (BEFORE, None), (None, b"{}")])
def test_a_file_that_changed_meanwhile_is_left_alone(here, before, then):
    path = config(here, before)
    plan = plan_install(entry_for(CURSOR, here), here)
    if then is None:
        path.unlink()
    else:
        config(here, then)
    with pytest.raises(InvalidRequest, match="was changed by another program meanwhile"):
        plan.apply()
    assert files_below(path.parent) == ([] if then is None else ["mcp.json"])
    assert then is None or path.read_bytes() == then


def test_a_file_that_changed_before_it_is_taken_out_is_left_alone(here):
    install(here)
    plan = plan_undo(CURSOR, here)
    path = config(here, '{"mine": 1}')
    with pytest.raises(InvalidRequest, match="was changed by another program meanwhile"):
        plan.apply()
    assert path.read_text() == '{"mine": 1}'
    assert (path.parent / "mcp.json.mq9-undo").exists()


def test_a_change_between_the_look_and_the_write_is_noticed(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"theirs")
    with pytest.raises(InvalidRequest, match="was changed by another program meanwhile"):
        plans.Change(path, b"ours", b"new").make()
    assert path.read_bytes() == b"theirs"
    assert files_below(tmp_path) == ["one"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anything")
def test_a_directory_that_cannot_be_written_leaves_all_as_it_is(here):
    path = config(here, BEFORE)
    plan = plan_install(entry_for(CURSOR, here), here)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(InvalidRequest, match="cannot be written: Permission denied"):
            plan.apply()
    finally:
        path.parent.chmod(0o700)
    assert path.read_text() == BEFORE
    assert files_below(path.parent) == ["mcp.json"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_is_read_only_stays_as_it_is(here):
    path = config(here, BEFORE)
    path.chmod(0o400)
    with pytest.raises(InvalidRequest, match="cannot be written: it is read-only"):
        install(here)
    assert path.read_text() == BEFORE


# Taking it out


def test_undo_leaves_alone_what_was_edited_since(here):
    path = config(here, BEFORE)
    install(here)
    edited = json.loads(path.read_text())
    edited["mcpServers"] = {"new": {"command": "n"}, **edited["mcpServers"], "last": {}}
    edited["theme"] = "light"
    path.write_text(json.dumps(edited, indent=1))
    undo(here)
    del edited["mcpServers"]["mq9"]
    assert path.read_text() == json.dumps(edited, indent=1)
    assert files_below(path.parent) == ["mcp.json"]


def test_undo_puts_back_what_stood_there_as_it_stood(here):
    before = '{"mcpServers": {"mq9": {"command":"mine",  "n": 1.0}, "b": {}}}'
    path = config(here, before)
    install(here)
    assert "mine" not in path.read_text()
    undo(here)
    assert path.read_text() == before


def test_undo_after_two_installs_goes_back_to_before_the_first(here):
    path = config(here, BEFORE.replace('"empty"', '"mq9"'))
    install(here)
    install(here, agent="another")
    assert "another" in path.read_text()
    undo(here)
    assert path.read_text() == BEFORE.replace('"empty"', '"mq9"')
    with pytest.raises(InvalidRequest, match="key: there is nothing to undo for 'mq9'"):
        undo(here)


def test_undo_takes_an_edited_entry_out_and_shows_that(here):
    path = config(here, BEFORE)
    install(here)
    path.write_text(path.read_text().replace('"--agent"', '"--read-only", "--agent"'))
    plan = plan_undo(CURSOR, here)
    assert '-                "--read-only", "--agent",' in plan.diff.split("\n")
    plan.apply()
    assert path.read_text() == BEFORE


def test_a_configuration_that_we_made_and_others_filled_stays(here):
    path = config(here)
    install(here)
    path.write_text(path.read_text().replace('"mq9"', '"other": {},\n    "mq9"', 1))
    undo(here)
    assert json.loads(path.read_text()) == {"mcpServers": {"other": {}}}


def test_the_place_for_servers_goes_only_if_we_made_it(here):
    for before in ('{\n  "a": 1\n}\n', '{\n  "a": 1,\n  "mcpServers": {}\n}\n'):
        path = config(here, before)
        install(here)
        undo(here)
        assert path.read_text() == before


@pytest.mark.parametrize("order", [["mq9", "second"], ["second", "mq9"]])
def test_two_entries_are_undone_in_any_order(here, order):
    path = config(here)
    install(here)
    install(here, key="second", agent="two")
    assert list(json.loads(path.read_text())["mcpServers"]) == ["mq9", "second"]
    undo(here, key=order[0])
    assert list(json.loads(path.read_text())["mcpServers"]) == [order[1]]
    undo(here, key=order[1])
    assert files_below(path.parent) == []


def test_undo_of_what_was_taken_out_by_hand_only_forgets_it(here):
    path = config(here, BEFORE)
    install(here)
    path.write_text(BEFORE)
    plan = plan_undo(CURSOR, here)
    assert plan.diff == ""
    assert plan.is_change
    plan.apply()
    assert path.read_text() == BEFORE
    assert files_below(path.parent) == ["mcp.json"]


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_undo_of_a_configuration_that_is_gone_forgets_it(here, content):
    path = config(here)
    install(here)
    path.unlink()
    config(here, content)
    undo(here)
    assert files_below(path.parent) == []


def test_undo_writes_what_stood_there_even_where_its_surroundings_are_gone(here):
    path = config(here, '{"mcpServers": {"mq9": {"command": "mine"}}}')
    install(here)
    path.unlink()
    undo(here)
    assert json.loads(path.read_text()) == {"mcpServers": {"mq9": {"command": "mine"}}}


@pytest.mark.parametrize(
    ("old", "advice"), [("", "take mq9 out"), ('"mq9": {\n"c":7}', 'let mq9 be {"c": 7}')]
)
def test_undo_of_what_is_no_json_any_more_says_what_to_do(here, old, advice):
    path = config(here, f'{{"mcpServers": {{{old}}}}}')
    install(here)
    broken = path.read_text() + "mine"
    path.write_text(broken)
    with pytest.raises(InvalidRequest, match="not JSON") as caught:
        plan_undo(CURSOR, here)
    assert str(caught.value).endswith(f"edit it by hand, and {advice}")
    assert path.read_text() == broken


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"before": {}}',
        b'{"before": {"mq9": 1}, "made_file": false, "made_servers": false}',
        b'{"before": {"mq9": "{"}, "made_file": false, "made_servers": false}',
        b'{"before": {"mq9": null}, "made_file": 0, "made_servers": false}',
    ],
)
def test_a_damaged_memory_is_no_reason_to_guess(here, content):
    path = config(here, BEFORE)
    memory = path.with_name("mcp.json.mq9-undo")
    memory.write_bytes(content)
    entry = entry_for(CURSOR, here)
    with pytest.raises(InvalidRequest, match="mq9-undo is not what mq9-mcp install wrote"):
        plan_install(entry, here)
    with pytest.raises(InvalidRequest, match="mq9-undo is not what mq9-mcp install wrote"):
        plan_undo(CURSOR, here)
    assert path.read_text() == BEFORE
    assert memory.read_bytes() == content
