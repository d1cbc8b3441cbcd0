"""Entries name the same broker for all, and no secrets to others."""

import os
import stat
import sys
from dataclasses import replace

import pytest

from mcp_server.hosts.entry import make_entry
from mcp_server.hosts.host import Launch
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo
from mq9 import InvalidRequest

CURSOR = HOSTS["cursor"]
SECRET = "nats://desk:hunter2@mail.example:4222"
IN_PROJECTS = [name for name, host in HOSTS.items() if host.project_files]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# In a project


@pytest.mark.parametrize("name", IN_PROJECTS)
@pytest.mark.parametrize("server", [None, "nats://mail.example:4222", "sqlite:///data/mail.db"])
def test_a_project_is_told_nothing_of_this_machine(here, name, server, monkeypatch):
    monkeypatch.chdir(here.project)
    host = HOSTS[name]
    entry = make_entry(host, here, server=server, scope="project", python="/none/python")
    plan_install(entry, here).apply()
    assert entry.launch.command == "mq9-mcp"
    if server is not None and server.startswith("sqlite:") and host.folder is not None:
        server = "sqlite:///${workspaceFolder}/data/mail.db"
    assert entry.launch.environment.get("MQ9_SERVER") == server
    for one in host.file(here, "project").parent.iterdir():
        assert str(here.home.parent) not in one.read_text()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"server": SECRET}, r"server: nats://\*\*\*@mail.example:4222 has a password or token"),
        ({"server": "sqlite:////elsewhere/mail.db"}, "server: .* is not in the project"),
        ({"server": "sqlite:///../mail.db"}, "server: .* is not in the project"),
        ({"server": "tls://mail:1?tls_ca=/home/ca.pem"}, "project: '/home/ca.pem' is a place"),
        ({"options": ["--read-only", "/home/me"]}, "project: '/home/me' is a place on this mach"),
        ({"options": [r"--x=C:\Users\me"]}, "project: .* is a place on this machine"),
    ],
)
def test_what_would_be_elsewhere_for_others_is_refused(here, wrong, says, monkeypatch):
    monkeypatch.chdir(here.project)
    options = {"server": None, "scope": "project", **wrong}
    with pytest.raises(InvalidRequest, match=says) as caught:
        make_entry(CURSOR, here, **options)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


# Claude Desktop as a package of Windows


def test_a_file_of_which_a_packaged_host_sees_a_copy_is_refused(here, tmp_path):
    local, roaming = tmp_path / "local", tmp_path / "roaming"
    (local / "Packages/Claude_abc/LocalCache").mkdir(parents=True)
    windows = replace(
        here,
        platform="win32",
        environment={**here.environment, "LOCALAPPDATA": str(local), "APPDATA": str(roaming)},
    )
    host = HOSTS["claude-desktop"]
    for folder in (local, roaming):
        with pytest.raises(InvalidRequest, match="sees a copy of its own") as caught:
            make_entry(host, windows, server=f"sqlite:///{folder}/mq9/mq9.db")
        url = str(caught.value).rpartition("--server ")[2]
        assert url == f"sqlite:///{here.home}/mq9.db"
        assert make_entry(host, windows, server=url).launch.environment["MQ9_SERVER"] == url
    assert make_entry(CURSOR, windows, server=f"sqlite:///{local}/mq9/mq9.db")
    assert make_entry(host, windows, server="nats://mail.example")


# Secrets

unix = pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")


@unix
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_file_with_a_password_is_its_owner_s_alone(here, umask):
    entry, path = make_entry(CURSOR, here, server=SECRET), CURSOR.file(here)
    before = os.umask(umask)
    try:
        plan_install(entry, here).apply()
    finally:
        os.umask(before)
    assert {mode(one) for one in path.parent.iterdir()} == {0o600}
    assert SECRET in path.read_text()
    assert not plan_install(entry, here).is_change
    path.chmod(0o644)
    plan = plan_install(entry, here)
    assert (plan.is_change, plan.diff) == (True, "")
    plan.apply()
    assert mode(path) == 0o600


@unix
@pytest.mark.parametrize("wide", [0o644, 0o660, 0o666])
def test_a_file_that_others_read_is_closed_before_the_password_is_in_it(here, wide):
    path = CURSOR.file(here)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(wide)
    with path.open() as opened:  # by somebody who was allowed to
        plan = plan_install(make_entry(CURSOR, here, server=SECRET), here)
        assert plan.config.closes
        plan.apply()
        assert opened.read() == "{}"
    assert mode(path) == 0o600
    assert "hunter2" in path.read_text()


def test_what_is_shown_holds_no_password(here):
    for name in ("cursor", "codex", "opencode", "cn"):
        host = HOSTS[name]
        if host.needs_file:
            host.file(here).parent.mkdir(parents=True)
            host.file(here).touch()
        plan = plan_install(make_entry(host, here, server=SECRET), here)
        assert "nats://***@mail.example:4222" in plan.diff
        assert "hunter2" not in plan.diff
        plan.apply()
        assert "hunter2" not in plan_undo(host, here).diff
        host.file(here).write_text("{ ]")
        with pytest.raises(InvalidRequest, match="was left as it is") as caught:
            plan_install(make_entry(host, here, server=SECRET), here)
        assert "hunter2" not in str(caught.value)
        assert host.file(here).read_text() == "{ ]"


# What entries say


@pytest.mark.parametrize(
    ("entry", "launch"),
    [
        ({"command": "x"}, Launch("x")),
        ({"command": ["x", "-a"], "environment": {"A": "b"}}, Launch("x", ("-a",), {"A": "b"})),
        ({"transport": {"type": "stdio", "command": "x"}}, Launch("x")),
        ({"transport": "stdio"}, None),
        ({"type": "http", "url": "https://mail.example/mcp"}, None),
        ({"command": []}, None),
        ({"command": "x", "args": "-a"}, None),
        ({"command": "x", "args": [1]}, None),
        ({"command": "x", "env": {"A": 1}}, None),
        (None, None),
        ("x", None),
    ],
)
def test_an_entry_is_read_whoever_wrote_it(entry, launch):
    assert Launch.read(entry) == launch
