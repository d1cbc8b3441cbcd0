"""mq9 for LangChain and LangGraph: eight tools with which agents find and write to each other.

::

    toolkit = Mq9Toolkit(agent="planner")
    app = create_react_agent(model, toolkit.get_tools())
"""

from langchain_mq9.session import Session
from langchain_mq9.toolkit import Mq9Toolkit
from langchain_mq9.tools import (
    AckMessagesTool,
    AgentDiscoverTool,
    AgentRegisterTool,
    CreateMailboxTool,
    DeleteMessageTool,
    FetchMessagesTool,
    Mq9Tool,
    QueryMessagesTool,
    SendMessageTool,
)

__all__ = [
    "AckMessagesTool",
    "AgentDiscoverTool",
    "AgentRegisterTool",
    "CreateMailboxTool",
    "DeleteMessageTool",
    "FetchMessagesTool",
    "Mq9Tool",
    "Mq9Toolkit",
    "QueryMessagesTool",
    "SendMessageTool",
    "Session",
]
