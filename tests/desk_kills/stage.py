"""A server, a worker and the desk as programs that are killed and started again."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from serving import Serving
from users_file import write_users

from mq9 import Mq9Client

ROLES = {
    "boss": "operator",
    "ada": "agent",
    "lawyer": "agent",
}
_USERS = "".join(
    f'[[users]]\nagent = "{name}"\nrole = "{role}"\nuser = "{name}"\npassword = "of-{name}"\n'
    for name, role in ROLES.items()
)
_PATIENCE_S = 20


def _environment(**more):
    # What coverage writes does not survive a kill.
    inherited = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    return {**inherited, **more}


class Program:
    """A program that runs until it is killed, and says in its first line that it is ready."""

    def __init__(self, directory, *command, **environment):
        self._log = directory / f"{Path(command[0]).name}.log"
        self._directory = directory
        self._command = command
        self._environment = environment
        self.process = None

    def start(self):
        """Start it; its first line."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mq9", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(**self._environment),
                cwd=self._directory,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line, self._log.read_text("utf-8")
        return line.strip()

    def kill(self):
        """End it at once; harmless when it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


class _Stage:
    """What both kinds of stage have."""

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
        program = Program(self.directory, *command, MQ9_SERVER=self.broker_url(name))
        self._programs.callback(program.kill)
        await asyncio.to_thread(program.start)
        return program


class OnFile(_Stage):
    """`mq9 desk` on a user's own file, with no server running; or on another broker."""

    def __init__(self, directory, url=None, name="boss"):
        super().__init__(directory)
        self._url = url or f"sqlite:///{directory / 'mq9.db'}"
        self._name = name
        self._port = 0
        self.link = ""
        self._program = None

    def broker_url(self, _name):
        """Return the URL of the broker for somebody."""
        return self._url

    def start(self):
        """Start the desk."""
        at = ("--port", str(self._port), "--url", self._url)
        self._program = Program(self.directory, "desk", "--as", self._name, "--no-open", *at)
        self.link = self._program.start()
        self._port = urlsplit(self.link).port

    def kill(self):
        """End the desk at once."""
        self._program.kill()

    @property
    def desk(self):
        """The URL of the desk."""
        return f"http://127.0.0.1:{self._port}/desk"


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
