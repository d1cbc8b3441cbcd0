"""What was measured, and on what."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from mq9.version import VERSION
from tests.nats_server import binary


def about(scale: float, rounds: int) -> dict[str, str | int | float]:
    """Return everything that a reader has to know of a run."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "Python": platform.python_version(),
        "interpreter": _interpreter(),
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
        "processor": _processor(),
        "machine": platform.platform(),
        "rounds": rounds,
        "scale": scale,
    }


def _interpreter() -> str:
    """Return how the interpreter was built; PGO makes it 6 to 18 % faster."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "with" if "--enable-optimizations" in arguments else "without"
    return f"{platform.python_implementation()}, built {built} PGO"


def _processor() -> str:
    """Return the model of the processor; on Linux alone the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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
