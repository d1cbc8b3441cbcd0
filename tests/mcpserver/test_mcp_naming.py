"""An agent that is named after its host and the project that it works on."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hosting import ERAS, Host, begin
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import ErrorData, Implementation, ListRootsResult, Root

from mcp_server import Callers, Settings, make_server
from mcp_server.callers import WorkingDirectory, directory_in, name_of
from mq9.address import slug
from mq9.operations.catalog import ALL
from tests.mcpserver.programs import MQ9_MCP

HOME = Path("/home/me")
CURRENT, OLDER = ERAS


@pytest.mark.parametrize(
    ("host", "project", "name"),
    [
        ("claude-code", "myproject", "claude-code-myproject"),
        ("Visual Studio Code", "My Project (2)", "visual-studio-code-my-project-2"),
        ("codex_mcp_client", ".dotfiles", "codex-mcp-client-dotfiles"),
        ("claude-ai", None, "claude-ai"),
        (None, "garden", "mcp-host-garden"),
        ("", "", "mcp-host"),
        ("翻译", "项目", "mcp-host-79f326be"),
        ("a\n\u202eb", "../../etc", "a-b-etc"),
        ("x" * 500, "y" * 500, f"{'x' * 40}-{'y' * 60}"),
    ],
)
def test_a_name_is_made_of_host_and_project(host, project, name):
    made = name_of(host, project)

    assert made == name
    assert Settings().identity(made).mail_address == slug(made) == made.replace("-", ".")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///home/me/my%20garden", "my garden"),
        ("file:///home/me/garden/", "garden"),
        ("file:///c%3A/Users/me/garden", "garden"),
        ("file:///C:/", None),
        ("file:///", None),
    ],
)
def test_a_root_is_called_like_its_directory(uri, name):
    assert directory_in(uri) == name


@pytest.mark.parametrize(
    ("directory", "project"),
    [
        (HOME / "garden", "garden"),
        (HOME, None),
        (Path("/"), None),
        (Path("C:/Windows/System32"), None),
        (None, None),
    ],
)
def test_where_no_project_is_there_is_none(directory, project):
    here = WorkingDirectory(directory, [HOME, Path("C:/Windows/System32")])
    assert here.project == project


def test_the_directory_of_this_process_names_its_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert WorkingDirectory.here().project == tmp_path.name
    monkeypatch.setenv("HOME", str(tmp_path))
    assert WorkingDirectory.here().project is None


@pytest.fixture
def open_window(broker):
    """Open a window of a host; each has a server process of its own."""

    @asynccontextmanager
    async def open_one(era, *, directory=HOME / "garden", about="claude-code", **client):
        settings = Settings()
        callers = Callers(
            lambda _agent: broker.client(),
            settings,
            working_directory=WorkingDirectory(directory, [HOME]),
            clock=broker.clock,
        )
        async with Client(
            make_server(callers, settings),
            mode="auto" if era == CURRENT else "legacy",
            client_info=Implementation(name=about, version="1"),
            **client,
        ) as connected:
            assert connected.protocol_version == era
            yield Host(connected, None, callers)

    return open_one


def roots(*uris):
    async def answer(_context):
        return ListRootsResult(roots=[Root(uri=uri, name="/a/full/path") for uri in uris])

    return {"list_roots_callback": answer}


async def test_an_agent_is_named_after_its_host_and_its_directory(open_window, era):
    async with open_window(era) as host:
        who = await host.do("whoami")

    assert (who["name"], who["mail_address"]) == ("claude-code-garden", "claude.code.garden")


async def test_every_way_to_ask_first_names_it(open_window, era):
    uri = "mq9://mailbox/claude.code.garden"
    async with open_window(era) as host:
        assert uri in {one.uri for one in (await host.client.list_resources()).resources}
    async with open_window(era) as host:
        [contents] = (await host.client.read_resource("mq9://protocol")).contents
        assert "You are the agent claude-code-garden" in contents.text
    async with open_window(era) as host:
        [said] = (await host.client.get_prompt("guide")).messages
        assert "Others reach you at `claude.code.garden`" in said.content.text
    async with open_window(era) as host:
        if era == OLDER:
            await host.client.subscribe_resource(uri)
            return
        async with host.client.listen(resource_subscriptions=[uri]) as events:
            assert events.honored.resource_subscriptions == [uri]


async def test_it_is_the_same_again_and_for_all_windows_of_a_project(open_window, era):
    async with open_window(era) as one:
        await one.do("send_message", to="claude.code.garden", content="to do")

    async with open_window(era) as one, open_window(era) as two:
        assert (await two.do("whoami"))["name"] == (await one.do("whoami"))["name"]
        # They share the mail, and neither gets what the other works on.
        [message] = (await one.do("fetch_messages", wait_seconds=0))["messages"]
        assert message["untrusted_content"] == "to do"
        held = (await two.do("fetch_messages", wait_seconds=0))["held_elsewhere"]
        assert held == "another session of yours holds 0, the first for 60 s more"
    async with open_window(era, directory=HOME / "garden") as other:
        assert (await other.do("whoami"))["name"] == "claude-code-garden"
    async with open_window(era, about="Cursor") as other:
        assert (await other.do("whoami"))["name"] == "cursor-garden"


async def test_the_first_root_of_a_host_is_its_project(open_window):
    named = roots("file:///home/me/shop", "file:///home/me/other")
    async with open_window(OLDER, **named) as host:
        assert (await host.do("whoami"))["name"] == "claude-code-shop"
    async with open_window(OLDER, **roots()) as host:
        assert (await host.do("whoami"))["name"] == "claude-code-garden"
    # The current protocol does without roots.
    async with open_window(CURRENT, **named) as host:
        assert (await host.do("whoami"))["name"] == "claude-code-garden"


async def test_a_host_that_does_not_say_its_roots_is_not_waited_for(open_window, broker):
    async def fail(_context):
        return ErrorData(code=-32603, message="no")

    async def leave(_context):
        await asyncio.Event().wait()

    async with open_window(OLDER, list_roots_callback=fail) as host:
        assert (await host.do("whoami"))["name"] == "claude-code-garden"
    async with open_window(OLDER, list_roots_callback=leave) as host:
        asking = await begin(broker, host.do("whoami"))
        both = asyncio.create_task(host.do("whoami"))
        await broker.clock.advance(2)
        assert (await asking)["name"] == (await both)["name"] == "claude-code-garden"


async def test_instructions_say_how_to_find_out(open_window, era):
    async with open_window(era) as host:
        told = host.client.instructions
    assert told.endswith("mq9_whoami tells who you are, and how others reach you.")


@pytest.mark.programs
async def test_a_program_is_named_after_its_directory(tmp_path, era):
    project = tmp_path / "My Garden"
    project.mkdir()
    started = StdioServerParameters(
        command=str(MQ9_MCP),
        args=["--server", f"sqlite:///{tmp_path}/mail.db"],
        env={"MQ9_AGENT": "auto", "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        cwd=project,
    )
    async with Client(
        stdio_client(started),
        mode="auto" if era == CURRENT else "legacy",
        client_info=Implementation(name="claude-code", version="1"),
    ) as client:
        told = client.instructions
        assert len((await client.list_tools()).tools) == len(ALL)
        listed = (await client.list_resources()).resources
        who = await client.call_tool("mq9_whoami", {})

    assert "mq9_whoami tells who you are" in told
    assert "mq9://mailbox/claude.code.my.garden" in {one.uri for one in listed}
    assert who.structured_content["name"] == "claude-code-my-garden"
