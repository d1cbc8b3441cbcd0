"""The URL of the broker in a host's configuration: absolute, portable, and without a secret."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import quote, urlsplit

from mcp_server.hosts.host import Host
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest
from mq9.transport import servers
from mq9.transport.open import VARIABLE, file_of, shown_url

_CREDENTIALS = re.compile(r"\b(nats|tls)://[^\s\"']*@")


def without_credentials(text: str) -> str:
    """Return a text without the passwords and tokens in the URLs of servers in it."""
    return _CREDENTIALS.sub(r"\1://***@", text)


def has_credentials(url: str | None) -> bool:
    """Tell whether a broker's URL holds a password or token."""
    return url is not None and file_of(url) is None and servers.has_credentials(url)


def absolute(url: str) -> str:
    """Return a broker's URL so that it means the same in every directory."""
    path = file_of(url)
    return url if path is None else _file_url(quote(path.as_posix(), safe="/:"), url)


def in_project(url: str, host: Host, machine: Machine) -> str:
    """Return a broker's URL as it means the same to all who have the project.

    Raises:
        InvalidRequest: It holds a password or token, or a path of this machine.
    """
    path = file_of(url)
    if path is None:
        if has_credentials(url):
            raise InvalidRequest(
                f"server: {shown_url(url)} has a password or token, and a project's file is for "
                f"all who have the project; leave it out, and let each set {VARIABLE}"
            )
        given = servers.parse(url)
        refuse_paths([one for one in (given.ca, given.cert, given.key) if one is not None])
        return url
    try:
        inside = path.relative_to(machine.project.resolve())
    except ValueError:
        raise InvalidRequest(
            f"server: {url!r} is not in the project, and so it is elsewhere for others; name a "
            "file in it or a server, or leave it out for the file of each user"
        ) from None
    place = quote(inside.as_posix(), safe="/:")
    return _file_url(place if host.folder is None else f"{host.folder}/{place}", url)


def refuse_paths(words: Sequence[str]) -> None:
    """Refuse words, such as arguments, that name a place on this machine.

    Raises:
        InvalidRequest: One of them does.
    """
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if Path(value).is_absolute() or PureWindowsPath(value).is_absolute():
            raise InvalidRequest(
                f"project: {value!r} is a place on this machine, and a project's file is for all "
                "who have the project"
            )


def refuse_private(url: str, host: Host, machine: Machine) -> None:
    """Refuse a file of which a host would see a copy of its own.

    Raises:
        InvalidRequest: It lies where the host sees such copies.
    """
    path = file_of(url)
    for folder in host.private_data(machine):
        if path is not None and path.is_relative_to(folder.resolve()):
            raise InvalidRequest(
                f"server: {path} lies below {folder}, of which {host.title}, as it is installed "
                "here, sees a copy of its own; let all hosts use a file elsewhere, such as "
                f"--server sqlite:///{(machine.home / 'mq9.db').as_posix()}"
            )


def _file_url(place: str, given: str) -> str:
    query = urlsplit(given).query
    return f"sqlite:///{place}" + (f"?{query}" if query else "")
