"""A host in a terminal: what a person would type is typed, and what it draws is read."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from threading import Thread

from tests.hosts.running import end_group, environment

_ROWS, _COLUMNS = 50, 150
_ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
# What programs ask a terminal, and what it answers: where the cursor is, and which kind it is.
_ANSWERS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?62c"}
_QUIET_S = 1.5


class Terminal:
    """A program that draws on a screen of its own."""

    def __init__(self, process, master):
        self._process = process
        self._master = master
        self._drawn = b""
        self._last = time.monotonic()
        Thread(target=self._read, daemon=True).start()

    @property
    def drawn(self):
        """All that was drawn, without the moves of the cursor and without blanks."""
        return re.sub(rb"\s+", b"", _ESCAPES.sub(b"", self._drawn)).decode("utf-8", "replace")

    def settle(self, text="", limit_s=30):
        """Wait until a text was drawn, without its blanks, and then nothing for a while."""
        end = time.monotonic() + limit_s
        while text not in self.drawn or time.monotonic() - self._last < _QUIET_S:
            if time.monotonic() > end:
                return
            time.sleep(0.1)

    def type(self, text):
        """Type a line."""
        os.write(self._master, text.encode())
        time.sleep(0.5)  # else it is taken for a paste, with the line end in it
        os.write(self._master, b"\r")

    def press(self, key):
        """Press a key, by what terminals send for it."""
        os.write(self._master, key)

    def _read(self):
        while True:
            try:
                read = os.read(self._master, 65_536)
            except OSError:  # it has ended
                return
            self._drawn += read
            self._last = time.monotonic()
            for asked, answer in _ANSWERS.items():
                for _ in range(read.count(asked)):
                    os.write(self._master, answer)

    def has_ended(self):
        """Tell whether the program has ended."""
        return self._process.poll() is not None


@contextmanager
def in_terminal(command, *, directory, **options):
    """Run a command in a terminal, and end whatever it has started."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**environment(**options), "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        end_group(process.pid)
        process.wait(timeout=30)
        os.close(master)
