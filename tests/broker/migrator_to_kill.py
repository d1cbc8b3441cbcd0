"""Opens copies of a file of an older schema, each in a process that is killed at a later step.

The schema after it is that of `made_up_schema.py`. Called with the file, a directory for the
copies, and what is counted: `steps` are calls of SQLite and of the system that change something,
`backup` and `commit` pairs of pages that a file may have, half of the last page missing. It ends
when a process was not killed, and says how many were.
"""

import itertools
import os
import resource
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import made_up_schema

from mq9.storage import store

CHANGES = {os.open, os.rename, os.unlink, os.fsync, os.close}
BYTES = 8_192  # two pages


def before_calls(do):
    """Call a function with what is called next, whenever that is written in C."""
    sys.setprofile(lambda _, event, called: do(called) if event == "c_call" else None)


def kill_at_step(number):
    left = number

    def count(called):
        nonlocal left
        if called in CHANGES or isinstance(getattr(called, "__self__", None), sqlite3.Connection):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    before_calls(count)


def kill_in_backup(number):
    """Have the system kill this process in the middle of a write; Python would go on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    size = number * BYTES - BYTES // 4
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def kill_in_commit(number):
    """Do so, once there is a backup, in a write to the log or, at last, to the file itself."""
    before_calls(lambda called: kill_in_backup(number) if called is os.rename else None)


def is_killed(path, limit, number):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            limit(number)
            store.open_file(path).close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "it failed instead"
    return False


def main():
    original, directory, counted = sys.argv[1:]
    made_up_schema.install()
    limit = {"steps": kill_at_step, "backup": kill_in_backup, "commit": kill_in_commit}[counted]
    for number in itertools.count(1):
        copy = Path(directory, f"{number}")
        copy.mkdir()
        path = Path(shutil.copy(original, copy / "mq9.db"))
        if not is_killed(path, limit, number):
            sys.stdout.write(f"{number - 1}\n")
            return


main()
