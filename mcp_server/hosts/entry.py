"""The entry in a host's configuration that has the host start this server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcp_server.hosts import broker_url
from mcp_server.hosts.config.files import encoded
from mcp_server.hosts.host import Host, Scope
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.hosts.program import PROGRAM, find_command
from mcp_server.settings import AUTO
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.operations import Identity
from mq9.transport.open import VARIABLE

DEFAULT_KEY = "mq9"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every host takes as the name of a server


@dataclass(frozen=True, slots=True)
class Entry:
    """What a host has to know of the server.

    Attributes:
        host: The host that is to start it.
        key: What the host calls it.
        launch: What the host is to run.
        scope: Whose configuration it is for: ``user`` or ``project``.
    """

    host: Host
    key: str
    launch: Launch
    scope: Scope = "user"

    @property
    def path(self) -> tuple[str, str]:
        """Where the entry stands in the host's configuration."""
        return self.host.servers_key, self.key

    @property
    def value(self) -> dict[str, Any]:
        """What stands there."""
        return self.host.value(self.launch)

    @property
    def text(self) -> str:
        """The entry with all that it stands in, to be pasted into the configuration."""
        return self.host.text.put("", self.path, self.value)

    @property
    def is_secret(self) -> bool:
        """Whether it holds a password or token."""
        return broker_url.has_credentials(self.launch.environment.get(VARIABLE))


def make_entry(
    host: Host,
    machine: Machine,
    *,
    server: str | None,
    scope: Scope = "user",
    agent: str | None = None,
    mail_address: str | None = None,
    options: Sequence[str] = (),
    key: str = DEFAULT_KEY,
    python: str = sys.executable,
) -> Entry:
    """Return what a host has to know of the server.

    Args:
        host: The host that is to start it.
        machine: Where the host runs.
        server: The URL of the broker. A path in it is made absolute, as the host starts programs in
            a directory and with variables of its own. None, which is for projects only, lets each
            user's server find the broker as all programs of mq9 do.
        scope: ``user`` for all that this user does, ``project`` for one project. What is for a
            project names nothing of this machine: the program by its name, a file by its place in
            the project.
        agent: The agent's name; by default that of the host, and in a project ``auto``, since some
            hosts read the files of others there.
        mail_address: Its mailbox; the slug of its name when not given.
        options: Further options of ``mq9-mcp``.
        key: What the host is to call the server: 1 to 64 of a-z, A-Z, 0-9, ``_`` and ``-``.
        python: The running Python, beside which the program is looked for first.

    Raises:
        InvalidRequest: The name, the URL or the key is not one, there is no ``mq9-mcp``, or others
            would not find the broker or should not see it.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"key: {shown(key)} is not 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")
    default = AUTO if scope == "project" else host.name
    name = Identity(default if agent is None else agent, mail_address=mail_address).name
    if name == AUTO and mail_address is not None:
        raise InvalidRequest(
            f"mail_address: {mail_address!r} is one mailbox, and agents that are named "
            "automatically have one each; give the agent a name"
        )
    own = [] if mail_address is None else ["--mail-address", mail_address]
    arguments = ("--agent", name, *own, *options)
    if server is not None and server.startswith("memory:"):
        raise InvalidRequest(f"server: {server!r} ends with its process; hosts never meet on it")
    if scope == "project":
        command = PROGRAM
        url = None if server is None else broker_url.in_project(server, host, machine)
        broker_url.refuse_paths(arguments)
    elif server is None:
        raise InvalidRequest("server: it is not given, and hosts would not meet by chance")
    else:
        command = str(find_command(machine, python))
        url = broker_url.absolute(server)
        broker_url.refuse_private(server, host, machine)
    given = {} if url is None else {VARIABLE: url}
    entry = Entry(host, key, Launch(command, arguments, given), scope)
    encoded("entry", json.dumps(entry.value, ensure_ascii=False))
    return entry
