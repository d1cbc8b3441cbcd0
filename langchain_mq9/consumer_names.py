"""The names of the consumers that the tools of one agent fetch as."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_mq9.branches import Branches
from langchain_mq9.calls import thread_of

_LONGEST = 200  # characters
_BRANCH = "#"  # before the number of a branch


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who fetches.

    Attributes:
        name: Its name. That of a parallel branch begins with the run's.
        run: The name of its thread or run, whatever the branch.
    """

    name: str
    run: str


class ConsumerNames:
    """Names a consumer for each LangGraph thread, or for each run of a graph without a thread.

    A run that is repeated in its thread is the same consumer, and gets what it had not acked. Its
    parallel branches are consumers of their own, but for the first, so that each gets other
    messages.

    Args:
        agent: The agent, with whose name those of its consumers begin.
        run_ended: A method that is told the name of a run without a thread when that has ended,
            which nothing can resume; from any thread. Its object is not kept alive.
    """

    def __init__(self, agent: str | None, run_ended: Callable[[str], None]) -> None:
        self._agent = agent or "agent"
        self._run_ended = weakref.WeakMethod(run_ended)
        self._branches = Branches()
        self._runs: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._outside_runs = secrets.token_hex(4)
        self._process = os.getpid()

    def current(self, config: RunnableConfig) -> Consumer:
        """Return the consumer that a tool is called by, where it is called.

        Args:
            config: The configuration of the call.
        """
        thread = thread_of(config)
        run = self._named(self._run() if thread is None else thread)
        numbers = self._branches.current(run, config)
        branch = "".join(f"{_BRANCH}{number}" for number in numbers)
        return Consumer(name=f"{run}{branch}", run=run)

    def _named(self, run: str) -> str:
        name = f"{self._agent}/{run}"
        if len(name) > _LONGEST or not name.isprintable() or name != name.strip() or _BRANCH in run:
            digest = hashlib.sha256(run.encode("utf-8", "backslashreplace")).hexdigest()
            name = f"{self._agent}/{digest[:16]}"
        return name

    def _run(self) -> str:
        """Return a name for the current run of a graph, or else for this process."""
        run = _stream_writer()
        if run is not None:
            if run not in self._runs:
                name = self._runs[run] = f"run-{secrets.token_hex(4)}"
                weakref.finalize(run, _tell, self._run_ended, self._named(name)).atexit = False
            return self._runs[run]
        if self._process != os.getpid():  # a forked child is another consumer
            self._process = os.getpid()
            self._outside_runs = secrets.token_hex(4)
        return self._outside_runs


def _stream_writer() -> Any:
    """Return what is made anew for each run of a graph and is the same throughout it, if one runs.

    What runs a graph has loaded LangGraph, which takes its time.
    """
    if "langgraph.runtime" not in sys.modules:
        return None
    from langgraph.runtime import get_runtime  # noqa: PLC0415  # see above

    try:
        return getattr(get_runtime(), "stream_writer", None)
    except (RuntimeError, KeyError):
        return None


def _tell(method: weakref.WeakMethod[Callable[[str], None]], run: str) -> None:
    told = method()
    if told is not None:
        told(run)
