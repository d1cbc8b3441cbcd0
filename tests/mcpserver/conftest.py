"""MCP hosts on a broker of the test's own under a clock that it moves."""

import asyncio

import pytest
from calling import stand_in
from hosting import ERAS, Host
from mcp import Client
from over_http import VARIANTS

from mcp_server import Callers, Settings, make_server
from mcp_server.hosts.host import Machine


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Each protocol over HTTP, with and without sessions."""
    return VARIANTS[request.param]


@pytest.fixture
def here(tmp_path):
    """A user with a home and a project, and with the program on PATH."""
    (tmp_path / "project").mkdir()
    for name in ("mq9-mcp", "mq9-mcp.exe"):
        program = stand_in(tmp_path / "programs" / name)
    path = {"PATH": str(program.parent)}
    return Machine("linux", tmp_path / "home", path, tmp_path / "project")


@pytest.fixture(params=ERAS)
def era(request):
    """Each protocol that is spoken."""
    return request.param


@pytest.fixture
async def open_host(broker):
    """Open hosts that are closed with the test."""
    closing = asyncio.Event()
    tasks = []

    async def keep(client, opened):
        # A client is to be closed by the task that opened it, and a fixture has more than one.
        async with client:
            opened.set_result(None)
            await closing.wait()

    async def open_one(agent="desk", *, era=ERAS[0], mail_address=None, client=None, **settings):
        offered = Settings(**settings)
        callers = Callers(
            lambda _agent: broker.client(), offered, agent=agent, mail_address=mail_address
        )
        server = make_server(callers, offered)
        mode = "auto" if era == ERAS[0] else "legacy"
        connected = Client(server, mode=mode, **(client or {}))
        opened = asyncio.get_running_loop().create_future()
        tasks.append(asyncio.create_task(keep(connected, opened)))
        await asyncio.wait([tasks[-1], opened], return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            tasks[-1].result()
        assert connected.protocol_version == era
        return Host(connected, server, callers)

    yield open_one
    closing.set()
    await asyncio.gather(*tasks)


@pytest.fixture
async def host(open_host, era):
    """A host in each era."""
    return await open_host("desk", era=era)
