"""mq9 for LangChain and LangGraph: tools for agents to find each other and exchange messages.

::

    toolkit = Mq9Toolkit(agent="planner")
    app = create_agent(model, toolkit.get_tools())
"""

from typing import TYPE_CHECKING

from langchain_mq9 import tools
from langchain_mq9.session import AgentOptions, Session
from langchain_mq9.tool import Mq9Tool
from langchain_mq9.toolkit import AskAgentTool, Mq9Toolkit
from langchain_mq9.tools import *  # noqa: F403  # a class for each operation of the catalogue
from mq9.lazy import lazy_names
from mq9.operations.ask import Question

if TYPE_CHECKING:
    from langchain_mq9.worker import MailboxWorker, WorkerCounters, WorkerOptions

__all__ = [
    "AgentOptions",
    "AskAgentTool",
    "MailboxWorker",
    "Mq9Tool",
    "Mq9Toolkit",
    "Question",
    "Session",
    "WorkerCounters",
    "WorkerOptions",
]
__all__ += tools.__all__

if not TYPE_CHECKING:  # loaded on first use, since most programs do not need it
    __getattr__, __dir__ = lazy_names(
        __name__, {"worker": ("MailboxWorker", "WorkerCounters", "WorkerOptions")}
    )
