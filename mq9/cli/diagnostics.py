"""Checks of ``mq9 doctor`` on this machine: versions, names of modules, file and ports."""

from __future__ import annotations

import errno
import http.client
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import mq9
from mq9.version import VERSION

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and the result."""

    name: str
    state: str  # OK, WARNING or PROBLEM
    text: str
    advice: str = ""  # empty when nothing needs to be done


def ok(name: str, text: str) -> Check:
    """Return that nothing is wrong."""
    return Check(name, OK, text)


def warning(name: str, text: str, advice: str) -> Check:
    """Return that something may go wrong."""
    return Check(name, WARNING, text, advice)


def problem(name: str, text: str, advice: str) -> Check:
    """Return that something does not work."""
    return Check(name, PROBLEM, text, advice)


_WITHOUT_WAL_RESET_BUG = (3, 51, 3)  # https://www.sqlite.org/wal.html#walresetbug
_LOW_DISK_BYTES = 100 * 1024 * 1024
_FULL_DISK_BYTES = 1024 * 1024
_PAGE_BYTES = 4_096
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_MOUNTS = Path("/proc/self/mountinfo")
_OF_NETWORKS = {
    *("afs", "ceph", "cifs", "fuse.sshfs", "fuse.glusterfs", "gfs2", "glusterfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
}
_GREETING_S = 1.0
_MAX_GREETING_BYTES = 64 * 1024
_MAX_METRICS_BYTES = 1024 * 1024  # bytes


def check_versions(packages: Sequence[str] = ()) -> list[Check]:
    """Check Python, our packages and others, and the features of SQLite."""
    found = [
        ok("python", f"{platform.python_version()} at {sys.executable}"),
        ok("langchain-mq9", VERSION),
    ]
    for package in packages:
        try:
            found.append(ok(package, version(package)))
        except PackageNotFoundError:
            found.append(problem(package, "is not installed", "install it again: see its README"))
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
        has_bug = (3, 7) <= sqlite3.sqlite_version_info < _WITHOUT_WAL_RESET_BUG
        hint = "; 3.51.3 is safer for a file of several programs" if has_bug else ""
        found.append(ok("sqlite", f"{sqlite3.sqlite_version}{hint}"))
    finally:
        connection.close()
    return found


def check_file(path: Path, *, usable: bool) -> list[Check]:
    """Check the broker's file from outside.

    The file is never opened. SQLite's locks belong to the process: closing any descriptor of the
    file would drop the locks of a broker in the same process.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        found = [] if usable else _folder(path)
        return found or [
            ok("file", f"{path} does not exist yet; the first use creates it"),
            *_file_system(path),
        ]
    except OSError as error:
        return [
            problem("file", f"{path}: {error.strerror}", "check the permissions of its directories")
        ]
    if not stat.S_ISREG(status.st_mode):
        return [problem("file", f"{path} is not a file", "name another one in the URL")]
    if usable:
        found = [_access(path, status), _disk(path)]
    else:
        found = [*_writable(path), *(_folder(path) or [_disk(path)])]
    log = path.with_name(f"{path.name}-wal")
    size = status.st_size + (log.stat().st_size if log.exists() else 0)
    return [ok("file", f"{path}, {size:,} bytes with its log"), *found, *_file_system(path)]


def _writable(path: Path) -> list[Check]:
    if os.access(path, os.R_OK | os.W_OK):
        return []
    advice = f"let this user read and write it: chmod u+rw {path}"
    return [problem("rights", f"{path} cannot be read and written by this user", advice)]


def _folder(path: Path) -> list[Check]:
    """Write a file next to the broker's, as SQLite does; return the problem if that fails."""
    folder = next(one for one in path.parents if one.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PAGE_BYTES))
    except OSError as error:
        if error.errno in _FULL:
            advice = "free disk space: nothing can be stored"
            return [problem("disk", f"{folder} has no room left: {error.strerror}", advice)]
        advice = "let this user write there, or name another file in the URL"
        return [problem("folder", f"{folder} cannot be written: {error.strerror}", advice)]
    return []


def _file_system(path: Path) -> list[Check]:
    """Return a warning if other machines may have the file open."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:  # another system, which has no such list
        mounts = ""
    kind = file_system_of(path.resolve(), mounts)
    if kind not in _OF_NETWORKS and not path.drive.startswith("\\\\"):
        return []
    return [
        warning(
            "file system",
            f"{path} is on a network file system ({kind or path.drive}). SQLite cannot lock "
            "it against other machines, which may damage the file",
            "keep it on a local disk, and let other machines connect to mq9 serve",
        )
    ]


def file_system_of(path: Path, mounts: str) -> str:
    """Return the file system type of a path from /proc/self/mountinfo; empty if unknown.

    If several are mounted at the same point, the last one counts.
    """
    found, depth = "", -1
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda one: chr(int(one[1], 8)), place.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind.split()[0], len(point.parts)
    return found


def _access(path: Path, status: os.stat_result) -> Check:
    if sys.platform == "win32":
        return ok("rights", "those of its directory")
    if status.st_uid != os.geteuid():
        return warning(
            "rights",
            f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}",
            "run all programs that use it as the same user",
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
        return problem("disk", text, "free disk space: nothing can be stored")
    if free < _LOW_DISK_BYTES:
        return warning("disk", text, "free disk space before it runs out")
    return ok("disk", text)


def check_port(name: str, number: int, option: str) -> Check:
    """Check whether a server could listen on a port of this machine."""
    where = f"127.0.0.1:{number}"
    taken = port_in_use(name, number, f"mq9 serve {option} PORT")
    if taken is None:
        return ok(name, f"{where} is free")
    if greeting("127.0.0.1", number).get("server_name") == "mq9":
        return ok(name, f"an mq9 broker listens on {where}")
    if _has_our_metrics(number):
        return ok(name, f"an mq9 broker has its metrics on {where}")
    return taken


def port_in_use(name: str, number: int, elsewhere: str) -> Check | None:
    """Return a warning if no server can listen on a port of this machine, else None."""
    where = f"127.0.0.1:{number}"
    with socket.socket() as listener:
        if os.name == "posix":  # as asyncio's servers do: a connection that lingers is no obstacle
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return warning(name, f"{where} cannot be used: {error.strerror}", elsewhere)
        else:
            return None
    return warning(name, f"{where} is in use by another program", f"{elsewhere}, or stop it")


def greeting(host: str, number: int) -> dict[str, Any]:
    """Return the INFO of a NATS server; empty if none listens."""
    try:
        with socket.create_connection((host, number), timeout=_GREETING_S) as connection:
            line = connection.makefile("rb").readline(_MAX_GREETING_BYTES)
    except OSError:  # it has ended, or sends nothing
        return {}
    try:
        found = json.loads(line.removeprefix(b"INFO "))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def check_server(host: str, number: int) -> list[Check]:
    """Compare the version of a broker with ours, if it reports one."""
    info = greeting(host, number)
    other = info.get("version")
    if info.get("server_name") != "mq9" or other == VERSION:
        return []
    text = f"the broker at {host}:{number} is langchain-mq9 {other}, and this is {VERSION}"
    return [warning("version", text, "upgrade the older one, and restart it")]


def _has_our_metrics(number: int) -> bool:
    """Return whether a port serves the metrics of an mq9 server."""
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=_GREETING_S)
    try:
        connection.request("GET", "/metrics")
        return b"mq9_build_info" in connection.getresponse().read(_MAX_METRICS_BYTES)
    except (OSError, http.client.HTTPException):  # another program
        return False
    finally:
        connection.close()


NAMES = ("mq9", "langchain_mq9", "mcp_server")
_OURS = "langchain-mq9"
# A line of top_level.txt, or of RECORD: a file in a package, a module of one file.
_TOP_LEVEL = re.compile(rf"^({'|'.join(NAMES)})(?:$|/|\.[^/\n]*,)", re.MULTILINE)


def check_names(path: Sequence[str], here: Path) -> list[Check]:
    """Look for other modules and packages of our names, and for other versions of ours."""
    places = list(dict.fromkeys(str(Path(here, entry).resolve()) for entry in ("", *path)))
    root = Path(mq9.__file__).resolve().parents[1]
    installers = _installers()
    found = []
    for name in NAMES:
        found += _check_modules(name, places, root)
        others = {one.lower().replace("_", "-") for one in installers[name]} - {_OURS}
        found += [
            problem(
                "names",
                f"the package {other} also installs a module {name}: each overwrites the other's "
                "files",
                f"pip uninstall {other}, then, in the clone, pip install --force-reinstall .",
            )
            for other in sorted(others)
        ]
    found += _other_versions(places)
    return found or [ok("names", f"nothing else is called {', '.join(NAMES)}")]


def _installers() -> dict[str, set[str]]:
    """Return the names of the distributions that install each of our modules.

    `importlib.metadata.packages_distributions` looks at all modules, and takes a third of a second.
    """
    found: dict[str, set[str]] = {name: set() for name in NAMES}
    for distribution in distributions():
        modules = distribution.read_text("top_level.txt") or distribution.read_text("RECORD") or ""
        for name in set(_TOP_LEVEL.findall(modules)):
            found[name].add(distribution.name)
    return found


def _check_modules(name: str, places: Sequence[str], root: Path) -> list[Check]:
    """Report other modules of this name on the path."""
    found = []
    seen_ours = False
    for place in places:
        if Path(place) == root and (root / name).is_dir():
            seen_ours = True
            continue
        # A package takes precedence over a directory without __init__.py.
        spec = PathFinder.find_spec(name, [place])
        if spec is None or spec.origin is None:
            continue
        where = spec.origin
        if seen_ours:
            text = f"{where} is also called {name}; ours comes first here, but not everywhere"
            found.append(warning("names", text, "rename or remove it"))
        elif (root / name).is_dir():
            text = f"{where} is imported as {name} instead of ours"
            advice = "rename or remove it, or start programs in another directory"
            found.append(problem("names", text, advice))
        else:
            text = f"`python -m {name}` starts {where} here, which is not ours"
            found.append(warning("names", text, "start our programs by their own names"))
    return found


def _other_versions(places: Sequence[str]) -> list[Check]:
    """Report other installed versions of our package."""
    installed = distributions(name=_OURS, path=list(places))
    return [_version(one) for one in installed if one.version != VERSION]


def _version(installed: Distribution) -> Check:
    release, where = f"{_OURS} {installed.version}", installed.locate_file("")
    # Others published releases of that name for an earlier protocol.
    if installed.version.startswith(("0.2.", "0.3.")):
        return problem(
            "names",
            f"{release} in {where} is an older package of that name, without mq9",
            f"pip uninstall {_OURS}, until none is left; then, in the clone, pip install .",
        )
    return warning(
        "names",
        f"{release} is installed in {where}, and this is {VERSION}",
        "in the clone, pip install .",
    )
