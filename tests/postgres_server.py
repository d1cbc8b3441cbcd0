"""A PostgreSQL server of a test's own, where its programs are installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_PATIENCE_S = 30


def programs():
    """The directory of `initdb` and `postgres`; None where they are not installed."""
    found = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates = [Path(found).resolve().parent] if found else places
    return next((one for one in candidates if (one / "postgres").exists()), None)


@contextlib.contextmanager
def serving():
    """Run a server while inside; gives what to connect with, over a socket in its directory."""
    # It refuses to be run by root, and nobody else can look into a directory of pytest's.
    directory = Path(tempfile.mkdtemp(prefix="mq9-postgres-"))
    is_root = os.geteuid() == 0
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if is_root else {}
    if is_root:
        shutil.chown(directory, "nobody", "nogroup")
    data = directory / "data"
    options = {"cwd": directory, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, **account}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        initdb = [programs() / "initdb", "-D", data, "-A", "trust", "-U", "test", "-E", "UTF8"]
        subprocess.run(initdb, check=True, **options, **quiet)
        server = [programs() / "postgres", "-D", data, "-k", directory]
        settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
        with subprocess.Popen([*server, *settings], **options, **quiet) as process:
            try:
                _wait_for(directory / ".s.PGSQL.5432", process)
                yield f"host={directory} user=test dbname=postgres"
            finally:
                process.terminate()
    finally:
        shutil.rmtree(directory)


def _wait_for(socket, process):
    deadline = time.monotonic() + _PATIENCE_S
    ready = [programs() / "pg_isready", "-h", socket.parent, "-q"]
    while subprocess.run(ready, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
        time.sleep(0.05)
