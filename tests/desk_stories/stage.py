"""A broker with a desk on it as programs, on a file or on a server; and people who open it."""

import asyncio
import contextlib
import os
import sys
from urllib.parse import urlsplit

from serving import Serving
from started import Started
from users_file import write_users

from mq9 import Mq9Client
from tests.desk_stories.looking import log_in
from tests.desk_stories.programs import DeskProgram

ROLES = {
    "boss": "operator",
    "ada": "agent",
    "lawyer": "agent",
    "courier": "agent",
}
_USERS = "".join(
    f'[[users]]\nagent = "{name}"\nrole = "{role}"\nuser = "{name}"\npassword = "of-{name}"\n'
    for name, role in ROLES.items()
)


# What coverage writes does not survive a kill.
_ENVIRONMENT = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}


class _Stage:
    """The common part of both kinds of stage."""

    has_users = False

    def __init__(self, directory):
        self.directory = directory
        self._stack = contextlib.AsyncExitStack()
        self._clients = {}
        self._programs = contextlib.ExitStack()

    async def __aenter__(self):
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exception):
        await self._stack.aclose()
        await asyncio.to_thread(self._programs.close)
        await asyncio.to_thread(self.kill)

    async def client(self, name):
        """The client of somebody, connected."""
        if name not in self._clients:
            client = Mq9Client(self.broker_url(name), reconnect_attempts=100, reconnect_delay=0.1)
            self._clients[name] = await self._stack.enter_async_context(client)
        return self._clients[name]

    async def run(self, *command, name="lawyer"):
        """Start a program of mq9's as somebody, until the end."""
        program = Started(
            self.directory / f"{command[0]}.log",
            [sys.executable, "-m", "mq9", *command],
            cwd=self.directory,
            env={**_ENVIRONMENT, "MQ9_SERVER": self.broker_url(name)},
        )
        self._programs.callback(program.kill)
        await asyncio.to_thread(program.start)
        return program


class OnFile(_Stage):
    """`mq9 desk` on a user's own file, with no server running; or on another broker."""

    def __init__(self, directory, url=None):
        super().__init__(directory)
        self._url = url or f"sqlite:///{directory / 'mq9.db'}"
        self._program = DeskProgram(directory, self._url, _ENVIRONMENT)
        self.start, self.kill = self._program.start, self._program.kill

    def broker_url(self, _name):
        """Return the URL of the broker for somebody."""
        return self._url

    @property
    def link(self):
        """The link that lets one browser in, once."""
        return self._program.link

    @property
    def desk(self):
        """The URL of the desk."""
        return self._program.at

    async def enter(self, tab):
        """Let a browser in."""
        await tab.goto(self.link)


class _DeskServer(Serving):
    """A server that keeps its admin port, too."""

    def start(self):
        super().start()
        self._admin = ("--admin-port", str(urlsplit(self.desk).port))


class OnServer(_Stage):
    """`mq9 serve --users FILE --desk`."""

    has_users = True

    def __init__(self, directory):
        super().__init__(directory)
        users = write_users(directory, _USERS)
        options = ("--users", str(users), "--data", str(directory / "mq9.db"), "--desk")
        self.server = _DeskServer(directory, *options, admin=True)
        self.start = self.server.start

    def kill(self):
        """End the server at once."""
        self.server.__exit__()

    def broker_url(self, name):
        """Return the URL of the broker for somebody."""
        return f"nats://{name}:of-{name}@127.0.0.1:{self.server.port}"

    @property
    def desk(self):
        """The URL of the desk."""
        return self.server.desk

    async def enter(self, tab):
        """Log in as the boss."""
        await log_in(tab, self.desk, "boss", "of-boss")
        await tab.wait_for_url(self.desk)
