"""Hosts that were installed for meet, whatever directory and variables each starts servers with."""

import pytest
from mcp import Client, StdioServerParameters

from mcp_server.hosts.host import Launch, Machine
from mcp_server.hosts.known import HOSTS
from tests.mcpserver.calling import move_to, ok
from tests.mcpserver.programs import MQ9_MCP

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


def started_by(name, folder):
    """A client of the server, as a host starts it that has its own idea of everything."""
    host, here = HOSTS[name], Machine.here()
    document = host.text.parse(host.file(here).read_text())
    launch = Launch.read(document[host.servers_key]["mq9"])
    folder.mkdir()
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "PATH": ""}
    return Client(
        StdioServerParameters(
            command=launch.command,
            args=list(launch.arguments),
            env=own | dict(launch.environment),
            cwd=folder,
        )
    )


@pytest.mark.parametrize("url", [None, "sqlite:///mine.db"])
async def test_what_one_host_sends_the_other_fetches(tmp_path, monkeypatch, url):
    move_to(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("PATH", str(MQ9_MCP.parent))
    monkeypatch.chdir(tmp_path)
    if url is not None:
        monkeypatch.setenv("MQ9_SERVER", url)
    for name in ("codex", "opencode"):
        ok("install", name, "--yes")
    async with (
        started_by("codex", tmp_path / "one") as codex,
        started_by("opencode", tmp_path / "two") as opencode,
    ):
        await opencode.call_tool("mq9_whoami", {})  # makes its mailbox
        sent = await codex.call_tool("mq9_send_message", {"to": "opencode", "content": "hello"})
        assert not sent.is_error, sent.content
        got = (await opencode.call_tool("mq9_fetch_messages", {})).structured_content
    [message] = got["messages"]
    assert message["untrusted_content"] == "hello"
    assert message["untrusted_envelope"]["from"] == "codex"
    for folder in ("one", "two"):
        assert not list((tmp_path / folder).rglob("*.db"))
