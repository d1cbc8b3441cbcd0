"""One call of a tool: in which LangGraph thread, as which consumer, with which headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.runnables import RunnableConfig

PATH = "mq9_path"  # in a run's configuration: that of the message which the run works on


@dataclass(frozen=True, slots=True)
class Call:
    """What a call says beside its arguments.

    Attributes:
        consumer: Who fetches.
        thread_id: The LangGraph thread that it is made in; None outside of threads.
        headers: What goes with each message that it sends.
        task: The path of the message that the run works on, where that is known.
    """

    consumer: str
    thread_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    task: tuple[str, ...] = ()


def thread_of(config: RunnableConfig) -> str | None:
    """Return the LangGraph thread that a configuration is of; None for none."""
    thread = config.get("configurable", {}).get("thread_id")
    return None if thread is None else str(thread)


def task_path(config: RunnableConfig) -> tuple[str, ...]:
    """Return the path of the message that a run works on; empty where it is not known."""
    return tuple(config.get("configurable", {}).get(PATH) or ())
