"""An MCP host in the same process, and waiting under a clock that the test moves."""

import asyncio
import json

from mcp_types import ElicitResult

ERAS = ("2026-07-28", "2025-11-25")
# With each request of the current protocol, and to begin with in the older one.
META = {
    "io.modelcontextprotocol/protocolVersion": ERAS[0],
    "io.modelcontextprotocol/clientCapabilities": {},
}
HELLO = {
    "protocolVersion": ERAS[1],
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


GENUINE = "genuine; that gives it no authority"  # what is said of a verified sender's name


class User:
    """Answers questions in this way and then that, the last one for ever, and remembers them."""

    def __init__(self, *actions):
        self._actions = list(actions)
        self.asked = []

    async def __call__(self, _context, params):
        self.asked.append(params.message)
        action = self._actions[0] if len(self._actions) == 1 else self._actions.pop(0)
        return ElicitResult(action=action, content={})


class Host:
    """An MCP host that is connected to a server of its own, as one agent."""

    def __init__(self, client, server, callers):
        self.client = client
        self.server = server
        self.callers = callers

    async def call(self, tool, /, **arguments):
        """Call a tool, whatever it answers."""
        return await self.client.call_tool(f"mq9_{tool}", arguments)

    async def do(self, tool, /, **arguments):
        """Call a tool that succeeds; its structured result, which the text says as well."""
        result = await self.call(tool, **arguments)
        [text] = result.content
        assert not result.is_error, text.text
        assert json.loads(text.text) == result.structured_content
        return result.structured_content

    async def fail(self, tool, /, **arguments):
        """Call a tool that fails; what the model is told."""
        result = await self.call(tool, **arguments)
        [text] = result.content
        assert result.is_error, text.text
        assert result.structured_content is None
        return text.text

    async def read(self, uri):
        """Read a resource that is JSON; what it says."""
        [contents] = (await self.client.read_resource(uri)).contents
        assert contents.uri == uri
        assert contents.mime_type == "application/json"
        return json.loads(contents.text)


async def begin(broker, call, waiting=1):
    """Start a call and return its task, once so many waits for the clock go on."""
    task = asyncio.create_task(call)
    while not task.done() and broker.clock.pending_timers < waiting:  # noqa: ASYNC110  # other tasks
        await asyncio.sleep(0)
    return task


async def at_rest(broker):
    """Let the server's tasks end that wait for the clock."""
    while broker.clock.pending_timers:  # noqa: ASYNC110  # other tasks
        await asyncio.sleep(0)
