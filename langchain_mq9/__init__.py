"""mq9 for LangChain and LangGraph: tools with which agents find and write to each other.

::

    toolkit = Mq9Toolkit(agent="planner")
    app = create_agent(model, toolkit.get_tools())
"""

from langchain_mq9 import tools
from langchain_mq9.session import Session
from langchain_mq9.tool import Mq9Tool
from langchain_mq9.toolkit import Mq9Toolkit
from langchain_mq9.tools import *  # noqa: F403  # a class for each operation of the catalogue

__all__ = ["Mq9Tool", "Mq9Toolkit", "Session"]
__all__ += tools.__all__
