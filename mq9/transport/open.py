"""Which transport a URL means, and the brokers that this process has open.

- ``memory://name``: a broker in memory, shared by name inside the process until it ends.
- ``sqlite:///path``: a broker on a file. Three slashes are followed by a path relative to the
  working directory, four by an absolute one (``sqlite:////var/lib/mq9.db``; on Windows
  ``sqlite:///C:/mq9.db``); ``?durability=full`` asks for an fsync before every reply.

Without a URL it is ``MQ9_SERVER`` from the environment, else one file per user.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from mq9.clock import SystemClock
from mq9.errors import InvalidRequest
from mq9.transport.base import Transport

if TYPE_CHECKING:
    from mq9.broker.embedded import Broker, EmbeddedBroker

VARIABLE = "MQ9_SERVER"


@dataclass(slots=True)
class _OpenFile:
    broker: EmbeddedBroker
    users: int = 0


# Brokers by name or path. Their threads do not survive a fork, so a child begins with none of its
# own, and keeps what it has of its parent's from being collected.
_lock = threading.Lock()
_memory: dict[str, Broker] = {}
_files: dict[tuple[Path, str], _OpenFile] = {}
_inherited: list[object] = []


def _forget_after_fork() -> None:
    global _lock, _memory, _files  # the child's are new
    _inherited.append((_memory, _files))
    _lock, _memory, _files = threading.Lock(), {}, {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def default_url() -> str:
    """Return the URL that is used when none is given."""
    url = os.environ.get(VARIABLE)
    if url:
        return url
    from platformdirs import user_data_path  # noqa: PLC0415  # not before it is used

    path = user_data_path("mq9", appauthor=False) / "mq9.db"
    return f"sqlite:///{quote(path.as_posix(), safe='/:')}"


def check_url(url: str) -> None:
    """Refuse what is not a URL of the forms above, without opening anything.

    Raises:
        InvalidRequest: It is not.
    """
    scheme = _split(url).scheme
    if scheme == "memory":
        _parse_memory(url)
    elif scheme == "sqlite":
        _parse_file(url)
    else:
        raise InvalidRequest(
            f"server: {url!r} is not a URL that this version opens; use memory://name or "
            "sqlite:///path"
        )


def open_transport(url: str | None, consumer: str, agent: str | None = None) -> Transport:
    """Open the broker that ``url`` names.

    Args:
        url: One of the forms above; None for the default.
        consumer: Stands in for the consumer in requests that name none.
        agent: For an in-process broker, the agent that the connection counts as authenticated for.

    Raises:
        InvalidRequest: The URL is none of the forms above.
        UnusableFile: The file is damaged, of a newer version or not mq9's.
    """
    if url is None:
        url = default_url()
    check_url(url)
    open_broker = _open_memory if _split(url).scheme == "memory" else _open_file
    broker, release = open_broker(url)
    from mq9.broker.service import Session  # noqa: PLC0415  # not before it is used
    from mq9.transport.direct import DirectTransport  # noqa: PLC0415  # not before it is used

    return DirectTransport(broker, Session(consumer, agent), release)


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise InvalidRequest(f"server: {url!r} is not a URL")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"server: {url!r} is not a URL: {error}") from None
    if parts.fragment:
        raise InvalidRequest(f"server: {url!r} has a '#', which is written %23 in a URL")
    return parts


def share(name: str, broker: Broker) -> None:
    """Let ``memory://name`` mean this broker."""
    with _lock:
        _memory[name] = broker


def unshare(name: str) -> None:
    """Let ``memory://name`` mean a new broker."""
    with _lock:
        _memory.pop(name, None)


def _open_memory(url: str) -> tuple[Broker, Callable[[], Awaitable[None]]]:
    from mq9.broker.embedded import EmbeddedBroker  # noqa: PLC0415  # not before it is used

    name = _parse_memory(url)
    with _lock:
        broker = _memory.get(name)
        if broker is None:
            broker = _memory[name] = EmbeddedBroker.in_memory(SystemClock())

    async def release() -> None:
        """Leave the broker: whoever connects next finds its mail."""

    return broker, release


def _parse_memory(url: str) -> str:
    parts = _split(url)
    if parts.path.strip("/") or parts.query:
        raise InvalidRequest(f"server: {url!r} has more than memory://name")
    return parts.netloc


def _open_file(url: str) -> tuple[Broker, Callable[[], Awaitable[None]]]:
    from mq9.broker.embedded import EmbeddedBroker  # noqa: PLC0415  # not before it is used
    from mq9.engine.store import Durability  # noqa: PLC0415  # not before it is used

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
        entry = files.get(key)
        if entry is None:
            entry = files[key] = _OpenFile(
                EmbeddedBroker.on_file(path, SystemClock(), durability=durability)
            )
        entry.users += 1

    async def release() -> None:
        with _lock:
            entry.users -= 1
            last = entry.users == 0
            if last:
                del files[key]
        if last:
            await entry.broker.close()

    return entry.broker, release


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
