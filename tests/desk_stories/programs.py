"""`mq9 desk` as its user starts it."""

import os
import sys

from started import Started


class DeskProgram(Started):
    """The desk of the boss in a process of its own, on a port that the system assigns.

    Started again, it keeps the port.

    Args:
        directory: Where its log lies.
        url: The broker.
        environment: Of the process. Default: the test's own.

    Attributes:
        at: The URL of the desk.
        link: The link that lets one browser in, once.
    """

    def __init__(self, directory, url, environment=None):
        self._words = ("desk", "--as", "boss", "--no-open", "--url", url)
        super().__init__(
            directory / "desk.log",
            self._command_at("0"),
            r"((http://127\.0\.0\.1:(\d+)/desk)/enter\?link=\S+)\n",
            env={**(environment or os.environ), "MQ9_LOG_LEVEL": "info"},
        )
        self.at = self.link = None

    def _command_at(self, port):
        return [sys.executable, "-m", "mq9", *self._words, "--port", port]

    def start(self):
        self.link, self.at, port = super().start().groups()
        self.command = self._command_at(port)
