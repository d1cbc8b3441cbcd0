"""The MCP server as a program, and the programs of others that are put to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from started import Started

from tests.mcpserver.hosting import HELLO

MQ9_MCP = Path(sys.executable).with_name("mq9-mcp")

_TOOLS = Path(__file__).parents[2] / ".tools"
_NODE_MODULES = _TOOLS / "mcp/node_modules"
_SCOPE = _NODE_MODULES / "@modelcontextprotocol"
_NODE = _NODE_MODULES / ".bin/node"
_CONFORMANCE = _SCOPE / "conformance/dist/index.js"
_INSPECTOR = _SCOPE / "inspector/clients/launcher/build/index.js"
_MCPB = _NODE_MODULES / "@anthropic-ai/mcpb/dist/cli/cli.js"
_OLDER_PYTHON = _TOOLS / "older/bin/python"
_OLDER_AGENT = Path(__file__).with_name("older_agent.py")

TIMEOUT_S = 60

needs_node = pytest.mark.skipif(
    not (_TOOLS / "mcp/.ready").exists(),
    reason="make installs the MCP conformance suite and the inspector only where there is npm",
)
needs_older_line = pytest.mark.skipif(
    not (_TOOLS / "older/.ready").exists(),
    reason="make has not made the environment with the older MCP SDK",
)


class StdioServer:
    """`mq9-mcp` on its standard input and output, spoken to line by line."""

    def __init__(self, *options, command=(MQ9_MCP,), **how):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([*command, *options], **pipes, **how)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.process:  # which closes the pipes
            self.process.kill()  # harmless when it has ended

    def write(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def say(self, method, number=None, **params):
        members = {"id": number, "method": method, "params": params}
        said = {name: one for name, one in members.items() if one is not None and one != {}}
        self.write(json.dumps({"jsonrpc": "2.0", **said}).encode())

    def hear(self):
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)

    def ask(self, method, number=1, **params):
        self.say(method, number, **params)
        answer = self.hear()
        assert answer["id"] == number
        return answer

    def greet(self):
        """Begin as the older protocol does."""
        self.ask("initialize", **HELLO)
        self.say("notifications/initialized")
        return self

    def do(self, tool, **arguments):
        result = self.ask("tools/call", name=f"mq9_{tool}", arguments=arguments)["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    def end(self):
        """Close its input, as a host does; what it still says."""
        self.process.stdin.close()
        rest = self.process.stdout.read()
        assert self.process.wait(TIMEOUT_S) == 0
        return [json.loads(line) for line in rest.splitlines()]


class McpServing(Started):
    """`mq9-mcp --http` in a process of its own, on a port that the system assigns."""

    def __init__(self, directory, *options):
        super().__init__(
            directory / "mq9-mcp.log",
            [MQ9_MCP, "--http", "--port", "0", *options],
            r"mq9-mcp listens on (http://127\.0\.0\.1:\d+/mcp)\n",
        )
        self.url = None

    def start(self):
        self.url = super().start()[1]


def conformance(directory, *words):
    """Run the conformance suite; a `subprocess.CompletedProcess` with text."""
    return _run(directory, _NODE, _CONFORMANCE, *words)


def inspector(directory, *words):
    """Run the command line of the inspector, as `conformance` does."""
    return _run(directory, _NODE, _INSPECTOR, "--cli", *words)


def mcpb(directory, *words):
    """Run the official program for bundles, as `conformance` does."""
    return _run(directory, _NODE, _MCPB, *words)


def older_agent(directory, *words):
    """Run the agent on the older SDK, as `conformance` does."""
    return _run(directory, _OLDER_PYTHON, _OLDER_AGENT, *words)


def _run(directory, *command):
    return subprocess.run(
        command,
        cwd=directory,
        # Of what is set here nothing reaches them: no proxy, no account that traces are sent to.
        env={"HOME": str(directory), "PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,  # it may start a dozen programs
        check=False,
    )
