"""What was measured, and on what."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from importlib import metadata

from mq9.version import VERSION
from tests.nats_server import binary


def about(scale: float, rounds: int) -> dict[str, str | int | float]:
    """Return everything that a reader has to know of a run."""
    return {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "mq9": VERSION,
        "commit": _first_line("git", "describe", "--always", "--dirty"),
        "uvloop": _version("uvloop"),
        "nats-server": _first_line(binary(), "--version"),
        "nats-py": _version("nats-py"),
        "redis-server": _first_line("redis-server", "--version"),
        "redis-py": _version("redis"),
        "hiredis": _version("hiredis"),
        "fakeredis": _version("fakeredis"),
        "mcp": _version("mcp"),
        "langchain-core": _version("langchain-core"),
        "processors": os.cpu_count() or 0,
        "machine": platform.platform(),
        "rounds": rounds,
        "scale": scale,
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _first_line(program: str | None, *arguments: str) -> str:
    """Return what a program says of itself."""
    path = None if program is None else shutil.which(program)
    if path is None:
        return "not installed"
    done = subprocess.run(  # noqa: S603  # what is on the path
        [path, *arguments], capture_output=True, text=True, check=False, timeout=10
    )
    return (done.stdout.splitlines() or ["unknown"])[0]
