"""`mq9 serve` in a process of its own, for as long as a benchmark needs it."""

import contextlib
import subprocess
import sys


@contextlib.contextmanager
def served(*options):
    """Serve on a port that the system assigns; its URL, and the id of the process."""
    command = [sys.executable, "-m", "mq9", "serve", "--port", "0", "--no-admin", *options]
    with subprocess.Popen(  # noqa: S603  # a command of ours
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        try:
            yield process.stdout.readline().rpartition(" ")[2].strip(), process.pid
        finally:
            process.terminate()
