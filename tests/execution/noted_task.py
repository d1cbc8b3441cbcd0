"""A task that notes when it begins and ends, and writes its result once, by its message's id.

Run by `mq9 exec` with a directory. The result is a file that is put in place whole or not at all,
and never in the place of another.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

directory, msg_id = Path(sys.argv[1]), os.environ["MQ9_MSG_ID"]


def note(what):
    with (directory / "journal").open("a") as journal:
        journal.write(f"{what} {msg_id} {os.getpid()}\n")


body = sys.stdin.read()
with (directory / "locks" / msg_id).open("w") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("overlap")
    note("begin")
    time.sleep(float(body.split()[1]))
    made = directory / f"made.{os.getpid()}"
    made.write_text(body)
    try:
        (directory / "results" / msg_id).hardlink_to(made)
        note("written")
    except FileExistsError:
        note("there")
    made.unlink()
    sys.stdout.write(body)
    sys.stdout.flush()
    note("end")
