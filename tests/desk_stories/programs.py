"""`mq9 desk` as its user starts it."""

import os
import re
import signal
import subprocess
import sys

_PATIENCE_S = 30


class DeskProgram:
    """The desk of the boss in a process of its own, on a port that the system assigns.

    Args:
        directory: Where its log lies.
        url: The broker.

    Attributes:
        link: The link that lets one browser in, once.
    """

    def __init__(self, directory, url):
        self.log = directory / "desk.log"
        self.link = None
        self._url = url
        self._process = None

    def __enter__(self):
        words = ("desk", "--as", "boss", "--no-open", "--url", self._url, "--port", "0")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mq9", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "MQ9_LOG_LEVEL": "info"},
            )
        line = self._process.stdout.readline()  # at the latest when it has ended
        said = re.fullmatch(r"(http://127\.0\.0\.1:\d+/desk)/enter\?link=\S+\n", line)
        if said is None:
            self._end()
        assert said, (line, self.told)
        self.link, self.at = line.strip(), said[1]
        return self

    def __exit__(self, *exception):
        assert self._end() == 0, self.told

    @property
    def told(self):
        """What it has logged."""
        return self.log.read_text("utf-8")

    def _end(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_PATIENCE_S)
        finally:
            self._process.kill()  # harmless when it has ended
            self._process.wait()
            self._process.stdout.close()
