"""A program that says in its first line that it is ready."""

import re
import signal
import subprocess

_PATIENCE_S = 60


class Started:
    """Such a program, ended well or at once, and started again.

    Args:
        log: The file that its standard error is added to.
        command: Its words.
        ready: A pattern of its first line.
        how: Of `subprocess.Popen`.
    """

    def __init__(self, log, command, ready=r".+\n", **how):
        self.log = log
        self.command = command
        self._ready = ready
        self._how = how
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        assert self.end() == 0, self.told

    @property
    def told(self):
        """What it has logged."""
        return self.log.read_text("utf-8")

    def start(self):
        """Start it; the match of its first line."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                **self._how,
            )
        line = self._process.stdout.readline()  # at the latest when it has ended
        said = re.fullmatch(self._ready, line)
        if said is None:
            self.end()
        assert said, (line, self.told)
        return said

    def end(self):
        """Tell it to end; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_PATIENCE_S)
        finally:
            self.kill()

    def kill(self):
        """End it at once; harmless when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
