"""Chooses the transport of a URL, and shares the brokers that this process has open.

- ``nats://[user:password@|token@]host[:port]``: a server, by default on port 4222; several, which
  are members of one cluster, separated by commas and tried in that order. Others that a server
  names are tried after them, unless ``?ignore_discovered=true``. ``inbox_prefix=`` says what the
  subjects of replies begin with. In place of a user or token ``creds=`` names a file of a JWT and
  its NKey, ``nkey=`` one of an NKey's seed. ``tls://`` is the same and insists on TLS: ``tls_ca=``
  names a file of certificates to trust instead of the system's, ``tls_cert=`` and ``tls_key=`` the
  files of the client's own certificate and key; with ``tls_first=true`` TLS begins before the
  server greets. Special characters in a user, password or token are percent-encoded.
- ``memory://name``: a broker in memory, shared by name inside the process until it ends.
- ``sqlite:///path``: a broker on a file. Three slashes are followed by a path relative to the
  working directory, four by an absolute one (``sqlite:////var/lib/mq9.db``; on Windows
  ``sqlite:///C:/mq9.db``); ``?durability=full`` asks for an fsync before every reply.

Without a URL it is ``MQ9_SERVER`` from the environment, else one file per user.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from mq9.clock import SystemClock
from mq9.discovery.embeddings import Embeddings, default_embeddings
from mq9.errors import InvalidRequest
from mq9.protocol.reserved import Reserved
from mq9.transport import servers
from mq9.transport.base import Transport

if TYPE_CHECKING:
    from mq9.broker.embedded import Broker, EmbeddedBroker

VARIABLE = "MQ9_SERVER"
_logger = logging.getLogger("mq9.client")

Release = Callable[[], Awaitable[None]]


class _OpenFile:
    """A file that some clients of this process use, or are about to."""

    def __init__(self) -> None:
        self.users = 0  # changed under the lock below
        self.broker: EmbeddedBroker | None = None
        self.opening = threading.Lock()  # held by the thread that opens the file


# Brokers by name or path. Their threads do not survive a fork, so a child begins with none of its
# own, and keeps what it has of its parent's from being collected.
_lock = threading.Lock()
_memory: dict[str, Broker] = {}
_memory_users: Counter[str] = Counter()  # by name
_files: dict[tuple[Path, str], _OpenFile] = {}
_inherited: list[object] = []


def _forget_after_fork() -> None:
    global _lock, _memory, _memory_users, _files  # the child's are new
    _inherited.append((_memory, _files))
    _lock, _memory, _memory_users, _files = threading.Lock(), {}, Counter(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def default_url() -> str:
    """Return the default URL."""
    url = os.environ.get(VARIABLE)
    if url:
        return url
    return f"sqlite:///{quote(default_file().as_posix(), safe='/:')}"


def default_file() -> Path:
    """Return the default file, which the programs of this user share."""
    from platformdirs import user_data_path  # noqa: PLC0415  # not before it is used

    return user_data_path("mq9", appauthor=False) / "mq9.db"


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without credentials."""
    return servers.without_secrets(url)


def check_url(
    url: str,
    embeddings: Embeddings | None = None,
    reserved: Reserved | None = None,
) -> None:
    """Refuse what is not a URL of the forms above, without opening anything."""
    scheme = _split(url).scheme
    if scheme in servers.SCHEMES:
        servers.parse(url)
        if reserved is not None:
            raise InvalidRequest(
                "agents: they are for a broker inside this process; a server has a users file"
            )
        if embeddings is not None:
            raise InvalidRequest(
                f"embeddings: {type(embeddings).__name__} is for a broker inside this process; a "
                "server has its own"
            )
    elif scheme == "memory":
        _parse_memory(url)
    elif scheme == "sqlite":
        _parse_file(url)
    else:
        raise InvalidRequest(
            f"server: {shown_url(url)!r} is not a URL that this version opens; use "
            "nats://host:port, tls://host:port, memory://name or sqlite:///path"
        )


def file_of(url: str) -> Path | None:
    """Return the file that a URL names; None for a broker that is not on one."""
    check_url(url)
    return _parse_file(url)[0] if _split(url).scheme == "sqlite" else None


async def open_transport(
    url: str | None,
    consumer: str,
    agent: str | None = None,
    embeddings: Embeddings | None = None,
    reserved: Reserved | None = None,
) -> Transport:
    """Open the broker that ``url`` names. Cancelling it leaves nothing open."""
    source = "as given"
    if url is None:
        url = default_url()
        source = f"from {VARIABLE}" if os.environ.get(VARIABLE) else "default"
    check_url(url, embeddings, reserved)
    _announce(shown_url(url), source)
    scheme = _split(url).scheme
    if scheme in servers.SCHEMES:
        from mq9.transport.nats import NatsTransport  # noqa: PLC0415  # not before it is used

        transport = NatsTransport(servers.parse(url), consumer, agent)
        await transport.open()
        return transport
    if scheme == "memory":
        broker, release = _open_memory(url, embeddings or default_embeddings())
    else:
        broker, release = await _open_file(url, embeddings or default_embeddings())
    from mq9.broker.asked import BrokerSession  # noqa: PLC0415  # not before it is used
    from mq9.transport.direct import DirectTransport  # noqa: PLC0415  # not before it is used

    session = BrokerSession(consumer, agent, reserved)
    return DirectTransport(broker, session, release, shown_url(url))


@functools.lru_cache(maxsize=256)
def _announce(shown: str, source: str) -> None:
    """Log which broker is used: once in this process, since the same is not asked for again."""
    _logger.info("mq9: using %s (%s)", shown, source)


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise InvalidRequest(f"server: {url!r} is not a URL")
    shown = shown_url(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidRequest(f"server: {shown!r} is not a URL") from None
    if parts.fragment:
        raise InvalidRequest(f"server: {shown!r} has a '#', which is written %23 in a URL")
    return parts


def share(name: str, broker: Broker) -> None:
    """Let ``memory://name`` mean this broker."""
    with _lock:
        _memory[name] = broker


def unshare(name: str) -> None:
    """Let ``memory://name`` mean a new broker."""
    with _lock:
        _memory.pop(name, None)


def _open_memory(url: str, embeddings: Embeddings | None) -> tuple[Broker, Release]:
    from mq9.broker.embedded import EmbeddedBroker  # noqa: PLC0415  # not before it is used

    name = _parse_memory(url)
    with _lock:
        broker = _memory.get(name)
        if broker is None:
            broker = _memory[name] = EmbeddedBroker.in_memory(SystemClock(), embeddings=embeddings)
        _memory_users[name] += 1

    async def release() -> None:
        """Leave the broker, whose mail stays for later connections; end its threads."""
        with _lock:
            _memory_users[name] -= 1
            is_unused = not _memory_users[name]
        if is_unused and isinstance(broker, EmbeddedBroker):
            broker.end_threads()

    return broker, release


def _parse_memory(url: str) -> str:
    parts = _split(url)
    if parts.path.strip("/") or parts.query:
        raise InvalidRequest(f"server: {url!r} has more than memory://name")
    return parts.netloc


async def _open_file(url: str, embeddings: Embeddings | None) -> tuple[Broker, Release]:
    """Use the file's broker; open it, on a thread because a locked file takes seconds."""
    from mq9.storage.store import Durability  # noqa: PLC0415  # not before it is used

    path, options = _parse_file(url)
    try:
        durability = Durability(options.get("durability", "normal"))
    except ValueError:
        raise InvalidRequest(
            f"durability: {options['durability']!r} is neither normal nor full"
        ) from None
    key = (path, durability.value)
    with _lock:
        files = _files
        entry = files.setdefault(key, _OpenFile())
        entry.users += 1
        broker = entry.broker  # where another client has opened it

    async def release() -> None:
        with _lock:
            entry.users -= 1
            if entry.users:
                return
            del files[key]
            unused, entry.broker = entry.broker, None
        if unused is not None:
            await unused.close()

    def open_it() -> EmbeddedBroker | None:
        from mq9.broker.embedded import EmbeddedBroker  # noqa: PLC0415  # not before it is used

        with entry.opening:
            if entry.broker is not None or entry.users == 0:
                return entry.broker
            opened = EmbeddedBroker.on_file(
                path, SystemClock(), durability=durability, embeddings=embeddings
            )
            with _lock:
                if entry.users:
                    entry.broker = opened
                    return opened
        asyncio.run(opened.close())  # its caller was cancelled
        return None

    try:
        if broker is None:
            broker = await asyncio.to_thread(open_it)
        assert broker is not None  # noqa: S101  # this is one of its users
    except BaseException:
        await release()
        raise
    return broker, release


def _parse_file(url: str) -> tuple[Path, dict[str, str]]:
    parts = _split(url)
    path = unquote(parts.path.removeprefix("/"))
    if not url.partition(":")[2].startswith("///") or not path:
        raise InvalidRequest(
            f"server: {url!r} is not sqlite:///path (three slashes, then the path)"
        )
    options = {
        name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
    }
    unknown = options.keys() - {"durability"}
    if unknown:
        raise InvalidRequest(f"server: {min(unknown)!r} in {url!r} is not an option; durability is")
    try:
        return Path(path).expanduser().resolve(), options
    except (ValueError, RuntimeError) as error:
        raise InvalidRequest(f"server: {url!r} has no usable path: {error}") from None
