"""The entry in a host's configuration: planned, shown, written, and taken out again."""

import json
import os
import stat
import sys
from dataclasses import replace

import pytest
from calling import stand_in

from mcp_server.hosts import plan as plans
from mcp_server.hosts.entry import find_command, make_entry
from mcp_server.hosts.host import Launch
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo
from mq9 import InvalidRequest

CURSOR = HOSTS["cursor"]
URL = "sqlite:////mail/mq9.db"


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
        ("opencode", None),
    ],
)
def test_each_host_is_told_in_its_own_way(here, name, members):
    entry = entry_for(HOSTS[name], here)
    command, arguments = entry.launch.command, list(entry.launch.arguments)
    environment = {"MQ9_SERVER": URL}
    if members is None:  # all words are one list
        value = {"type": "local", "command": [command, *arguments], "environment": environment}
    else:
        value = members | {"command": command, "args": arguments, "env": environment}
    assert arguments == ["--agent", name]
    assert json.loads(entry.text) == {HOSTS[name].servers_key: {"mq9": value}}
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
    stand_in(tmp_path / "base" / "python")
    venv = tmp_path / "venv" / "bin"
    mine = stand_in(venv / "mq9-mcp")
    (venv / "python").symlink_to(tmp_path / "base" / "python")
    assert find_command(here, str(venv / "python")) == mine


def test_on_windows_it_is_an_exe_and_its_backslashes_survive(here, tmp_path):
    folder = tmp_path / r"C:\Users\Ann\new\Scripts"
    mine = stand_in(folder / "mq9-mcp.exe")
    windows = replace(here, platform="win32", environment={})
    install(windows, host=HOSTS["vscode"], python=str(folder / "python.exe"))
    path = HOSTS["vscode"].file(windows)
    assert path == here.home / "AppData" / "Roaming" / "Code" / "User" / "mcp.json"
    assert json.loads(path.read_bytes())["servers"]["mq9"]["command"] == str(mine)
    assert rb"C:\\Users\\Ann\\new\\Scripts" in path.read_bytes()


def test_no_program_that_could_not_be_started_is_written(here, tmp_path, monkeypatch):
    (tmp_path / "folder" / "mq9-mcp").mkdir(parents=True)
    stand_in(tmp_path / "unfit" / "mq9-mcp").chmod(0o644)
    stand_in(tmp_path / "relative" / "mq9-mcp")
    in_cache = stand_in(tmp_path / "uv" / "archive-v0" / "x1" / "bin" / "mq9-mcp")
    monkeypatch.chdir(tmp_path)
    places = [str(tmp_path / "folder"), str(tmp_path / "unfit"), "relative", ""]
    nowhere = replace(here, environment={"PATH": os.pathsep.join(places)})
    for machine, python, says in (
        (nowhere, "/none/python", "command: there is no mq9-mcp beside /none/python"),
        (replace(here, environment={}), "", "command: there is no mq9-mcp beside"),
        (here, str(in_cache.with_name("python")), "mq9-mcp is in the cache of uv, which is cle"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            find_command(machine, python)


# Writing


@pytest.mark.parametrize("name", list(HOSTS))
@pytest.mark.parametrize("scope", ["user", "project"])
def test_every_host_gets_it_and_loses_it(here, name, scope):
    host = HOSTS[name]
    entry = entry_for(host, here, scope=scope, server=None if scope == "project" else URL)
    if host.needs_file and scope == "user":
        with pytest.raises(InvalidRequest, match="does not exist, and once it did"):
            plan_install(entry, here)
        config(here, "", host)
    if not host.project_files and scope == "project":
        with pytest.raises(InvalidRequest, match="project: "):
            plan_install(entry, here)
        return
    plan_install(entry, here).apply()
    path = host.file(here, scope)
    assert host.text.parse(path.read_text()) == {host.servers_key: {"mq9": entry.value}}
    assert not plan_install(entry, here).is_change
    if sys.platform != "win32" and not host.needs_file:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plan_undo(host, here, scope=scope).apply()
    assert files_below(path.parent) == ([path.name] if host.needs_file else [])


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
    assert (plan.entry.host, plan.path) == (CURSOR, path)
    lines = plan.diff.split("\n")
    assert lines[:2] == [f"--- {path} (now)", f"+++ {path} (then)"]
    assert [one for one in lines[2:] if one.startswith("-")] == ['-        "empty": {}']
    added = [one for one in lines[2:] if one.startswith("+")]
    assert added[:2] == ['+        "empty": {},', '+        "mq9": {']
    assert len(added) == 11
    assert path.read_text() == BEFORE
    assert files_below(here.home) == before
    # Other line ends are no change.
    config(here, ("\ufeff" + BEFORE.replace("\n", "\r\n")).encode())
    assert plan_install(entry_for(CURSOR, here), here).diff == plan.diff
    path.unlink()
    assert plan_install(entry_for(CURSOR, here), here).diff.startswith("--- (no file)\n+++ /")
    install(here)
    assert plan_undo(CURSOR, here).diff.split("\n")[1] == "+++ (no file)"


def test_an_entry_that_says_the_same_is_left_as_it_is_written(here):
    entry = entry_for(CURSOR, here)
    path = config(here, json.dumps({"mcpServers": {"mq9": entry.value}}))
    before = path.read_bytes()
    plan_install(entry, here).apply()
    assert path.read_bytes() == before
    assert files_below(path.parent) == ["mcp.json"]  # nothing is remembered: nothing was done


@pytest.mark.parametrize("blank", ["", "\n", "{}", "{}\n", "// mine\n"])
def test_an_empty_configuration_is_filled(here, blank):
    path = config(here, blank)
    entry = entry_for(CURSOR, here)
    plan_install(entry, here).apply()
    assert CURSOR.text.parse(path.read_text()) == {"mcpServers": {"mq9": entry.value}}
    undo(here)
    assert path.read_text() == blank


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


UTF_16 = '{"a": "ü"}'.encode("utf-16")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: path.write_bytes(UTF_16), "is not UTF-8: byte 0"),
        (lambda path: path.mkdir(), r"mcp\.json is not a file"),
        (lambda path: path.symlink_to(path), "is a link that leads nowhere"),
        (lambda path: path.write_text("{}" + " " * 30), "has more than 31 bytes"),
    ],
    ids=["UTF-16", "directory", "circle", "large"],
)
def test_what_is_no_text_of_some_length_is_refused(here, monkeypatch, prepare, says):
    monkeypatch.setattr(plans, "MOST_BYTES", 31)
    path = config(here)
    path.parent.mkdir(parents=True)
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InvalidRequest, match=says):
        plan_install(entry_for(CURSOR, here), here)
    assert before is None or path.read_bytes() == before


def test_a_file_in_the_place_of_a_directory_is_refused(here):
    here.home.mkdir()
    (here.home / ".cursor").write_text("")
    with pytest.raises(InvalidRequest, match=r"mcp\.json cannot be read: Not a directory"):
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


changed_meanwhile = pytest.raises(InvalidRequest, match="was changed by another program meanwhile")


@pytest.mark.parametrize(("before", "then"), [(BEFORE, b"{}"), (BEFORE, None), (None, b"{}")])
def test_a_file_that_changed_meanwhile_is_left_alone(here, before, then):
    path = config(here, before)
    plan = plan_install(entry_for(CURSOR, here), here)
    if then is None:
        path.unlink()
    else:
        config(here, then)
    with changed_meanwhile:
        plan.apply()
    assert files_below(path.parent) == ([] if then is None else ["mcp.json"])
    assert then is None or path.read_bytes() == then


def test_a_file_that_changed_before_it_is_taken_out_is_left_alone(here):
    install(here)
    plan = plan_undo(CURSOR, here)
    path = config(here, '{"mine": 1}')
    with changed_meanwhile:
        plan.apply()
    assert path.read_text() == '{"mine": 1}'
    assert (path.parent / "mcp.json.mq9-undo").exists()


def test_a_change_between_the_look_and_the_write_is_noticed(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"theirs")
    with changed_meanwhile:
        plans.Change(path, b"ours", b"new").make()
    assert path.read_bytes() == b"theirs"
    assert files_below(tmp_path) == ["one"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anything")
@pytest.mark.parametrize(
    ("place", "mode", "says"),
    [
        ("directory", 0o500, "cannot be written: Permission denied"),
        ("file", 0o400, "cannot be written: it is read-only"),
    ],
)
def test_what_cannot_be_written_stays_as_it_is(here, place, mode, says):
    path = config(here, BEFORE)
    plan = plan_install(entry_for(CURSOR, here), here)
    closed = path.parent if place == "directory" else path
    closed.chmod(mode)
    try:
        with pytest.raises(InvalidRequest, match=says):
            plan.apply()
    finally:
        closed.chmod(0o700)
    assert path.read_text() == BEFORE
    assert files_below(path.parent) == ["mcp.json"]


# Taking it out


CODEX_BEFORE = """\
# mine
model = "o"  # kept

[mcp_servers.mq9] # by hand
env.A = 'b'
args = ["[x]",
  "# no comment"]
command = "mine"

[mcp_servers.mq9.tools.x]
approval_mode = "approve"
# of tui
[tui]
a = [
 [1, 2],
]"""


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n# the end\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("part", ["all", "without ours", "nothing"])
def test_the_configuration_of_codex_is_the_same_again(here, end, line_end, part):
    """The order, the comments and the bytes of what others wrote stay, also of an entry before."""
    text = {"all": CODEX_BEFORE, "nothing": ""}.get(
        part, CODEX_BEFORE[: CODEX_BEFORE.index("[mcp")] + "[tui]\na = 1"
    )
    before = (text + end).replace("\n", line_end).encode()
    codex = HOSTS["codex"]
    path = config(here, before, codex)
    for agent in ("one", "two"):
        install(here, codex, agent=agent)
        after = path.read_bytes()
        assert all(line in after for line in before.split(b"\n") if line.startswith(b"#"))
        assert codex.text.parse(after.decode())["mcp_servers"]["mq9"]["args"] == ["--agent", agent]
    path.write_bytes(path.read_bytes().replace(b'model = "o"', b'model = "p"'))
    install(here, codex, key="second")
    undo(here, codex, key="second")
    undo(here, codex)
    assert path.read_bytes() == before.replace(b'model = "o"', b'model = "p"')
    assert files_below(path.parent) == ["config.toml"]


@pytest.mark.parametrize("blank", ["", "\n", "{}\n"])
@pytest.mark.parametrize("first", ["mq9", "second"])
def test_an_empty_configuration_is_empty_again_after_two_entries(here, blank, first):
    path = config(here, blank)
    for key in ("mq9", "second"):
        install(here, key=key)
    undo(here, key=first)
    undo(here, key={"mq9": "second", "second": "mq9"}[first])
    assert path.read_text() == blank


def test_what_an_earlier_release_remembers_is_undone(here):
    path = config(here, BEFORE)
    install(here)
    memory = path.with_name("mcp.json.mq9-undo")
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps({name: known[name] for name in list(known)[:3]}))
    undo(here)
    assert path.read_text() == BEFORE


def test_undo_leaves_alone_what_was_edited_since_and_takes_an_edited_entry_out(here):
    path = config(here, BEFORE)
    install(here)
    edited = json.loads(path.read_text())
    edited["mcpServers"] = {"new": {"command": "n"}, **edited["mcpServers"], "last": {}}
    edited["mcpServers"]["mq9"]["args"].insert(0, "--read-only")
    edited["theme"] = "light"
    path.write_text(json.dumps(edited, indent=1))
    plan = plan_undo(CURSOR, here)
    assert '-    "--read-only",' in plan.diff.split("\n")
    plan.apply()
    del edited["mcpServers"]["mq9"]
    assert path.read_text() == json.dumps(edited, indent=1)
    assert files_below(path.parent) == ["mcp.json"]


def test_undo_after_two_installs_puts_back_what_stood_there_as_it_stood(here):
    before = '{"mcpServers": {"mq9": {"command":"mine",  "n": 1.0}, "b": {}}}'
    path = config(here, before)
    install(here)
    install(here, agent="another")
    assert "another" in path.read_text()
    assert "mine" not in path.read_text()
    undo(here)
    assert path.read_text() == before
    with pytest.raises(InvalidRequest, match="undo: nothing to undo for 'mq9'"):
        undo(here)


def test_what_we_made_goes_unless_others_filled_it(here):
    for before in ('{\n  "a": 1\n}\n', '{\n  "a": 1,\n  "mcpServers": {}\n}\n'):
        path = config(here, before)
        install(here)
        undo(here)
        assert path.read_text() == before
    path.unlink()
    install(here)
    path.write_text(path.read_text().replace('"mq9"', '"other": {},\n    "mq9"', 1))
    undo(here)
    assert json.loads(path.read_text()) == {"mcpServers": {"other": {}}}


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
    assert (plan.diff, plan.is_change) == ("", True)
    plan.apply()
    assert path.read_text() == BEFORE
    assert files_below(path.parent) == ["mcp.json"]


MINE = '{"mcpServers": {"mq9": {"command": "mine"}}}'


@pytest.mark.parametrize(
    ("before", "content", "then"),
    [(None, None, None), (None, "", None), (None, "{}", None), (MINE, None, json.loads(MINE))],
)
def test_undo_of_a_configuration_that_is_gone_writes_what_stood_there(here, before, content, then):
    path = config(here, before)
    install(here)
    path.unlink()
    config(here, content)
    undo(here)
    assert files_below(path.parent) == ([] if then is None else ["mcp.json"])
    assert then is None or json.loads(path.read_text()) == then


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
        b'{"before": {"mq9": null}, "made_file": false, "made_servers": false, "blank": 1}',
        b'{"before": {}, "made_file": false, "made_servers": false, "spliced": {"a": ["b"]}}',
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
