"""Checks of ``mq9 doctor`` that need no broker: versions, the file, the ports."""

from __future__ import annotations

import errno
import http.client
import os
import platform
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mq9.cli.diagnostics import Check, ok, problem, warning
from mq9.version import VERSION

_LOW_DISK_BYTES = 100 * 1024 * 1024
_FULL_DISK_BYTES = 1024 * 1024
_GREETING_S = 1.0
_MAX_METRICS_BYTES = 1024 * 1024  # bytes


def check_versions(packages: Sequence[str] = ()) -> list[Check]:
    """Check Python, our packages and others, and what SQLite can do."""
    found = [
        ok("python", f"{platform.python_version()} at {sys.executable}"),
        ok("langchain-mq9", VERSION),
    ]
    for package in ("nats-py", *packages):
        try:
            found.append(ok(package, version(package)))
        except PackageNotFoundError:
            found.append(
                problem(package, "is not installed", "install it again, as its README says")
            )
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE one USING fts5(text)")
    except sqlite3.OperationalError as error:
        found.append(
            problem(
                "sqlite",
                f"{sqlite3.sqlite_version} cannot search text ({error})",
                "use a Python whose sqlite3 has FTS5, or a broker elsewhere",
            )
        )
    else:
        found.append(ok("sqlite", sqlite3.sqlite_version))
    finally:
        connection.close()
    return found


def check_file(path: Path, *, usable: bool) -> list[Check]:
    """Check the broker's file from outside.

    It is never opened: SQLite's locks belong to the process, and closing any descriptor of the file
    would drop those of a broker that runs in it.

    Args:
        path: The file.
        usable: Whether it is the broker's; of another's nothing is advised but to leave it alone.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return [ok("file", f"{path} is not there yet; the first use makes it")]
    except OSError as error:
        return [problem("file", f"{path}: {error.strerror}", "check the rights of its directories")]
    if not stat.S_ISREG(status.st_mode):
        return [problem("file", f"{path} is not a file", "name another one in the URL")]
    found = [_access(path, status), _disk(path)] if usable else [_disk(path)]
    log = path.with_name(f"{path.name}-wal")
    size = status.st_size + (log.stat().st_size if log.exists() else 0)
    return [ok("file", f"{path}, {size:,} bytes with its log"), *found]


def _access(path: Path, status: os.stat_result) -> Check:
    if sys.platform == "win32":
        return ok("rights", "as its directory says")
    if status.st_uid != os.geteuid():
        return warning(
            "rights",
            f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}",
            "run every program on it as the same user",
        )
    if status.st_mode & 0o077:
        return warning(
            "rights",
            f"{path} is open to others on this machine ({stat.S_IMODE(status.st_mode):o})",
            f"chmod 600 {path}",
        )
    return ok("rights", f"{stat.S_IMODE(status.st_mode):o}: its owner only")


def _disk(path: Path) -> Check:
    free = shutil.disk_usage(path.parent).free
    text = f"{free // (1024 * 1024):,} MiB free"
    if free < _FULL_DISK_BYTES:
        return problem("disk", text, "make room: nothing can be stored")
    if free < _LOW_DISK_BYTES:
        return warning("disk", text, "make room before nothing can be stored")
    return ok("disk", text)


def check_port(name: str, number: int, option: str) -> Check:
    """Check whether a server could listen on a port of this machine.

    Args:
        name: What it would serve there.
        number: The port.
        option: What chooses another one.
    """
    where = f"127.0.0.1:{number}"
    with socket.socket() as listener:
        if os.name == "posix":  # as asyncio's servers do: a connection that lingers is no obstacle
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return warning(
                    name, f"{where} cannot be used: {error.strerror}", f"mq9 serve {option} PORT"
                )
        else:
            return ok(name, f"{where} is free")
    if _greets_as_mq9(number):
        return ok(name, f"an mq9 broker listens on {where}")
    if _has_our_metrics(number):
        return ok(name, f"an mq9 broker has its metrics on {where}")
    return warning(
        name, f"{where} is in use by another program", f"mq9 serve {option} PORT, or stop it"
    )


def _greets_as_mq9(number: int) -> bool:
    """Tell whether what listens on a port greets as our server does."""
    try:
        with socket.create_connection(("127.0.0.1", number), timeout=_GREETING_S) as connection:
            greeting = connection.recv(4096)
    except OSError:  # it ended meanwhile, or sends nothing
        return False
    return greeting.startswith(b"INFO ") and b'"server_name":"mq9"' in greeting


def _has_our_metrics(number: int) -> bool:
    """Tell whether a port answers with the metrics of a server of ours."""
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=_GREETING_S)
    try:
        connection.request("GET", "/metrics")
        return b"mq9_build_info" in connection.getresponse().read(_MAX_METRICS_BYTES)
    except (OSError, http.client.HTTPException):  # whatever it is, it is not ours
        return False
    finally:
        connection.close()
