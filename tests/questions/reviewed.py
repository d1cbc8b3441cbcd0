"""An agent of create_agent whose tools a person has to allow."""

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9.testing import ScriptedModel


class Agent:
    """An agent whose two tools a person has to allow; `done` is what the tools have done."""

    def __init__(self, **how):
        self.done = []

        @tool
        def send_email(to: str) -> str:
            """Send it."""
            self.done.append(f"sent to {to}")
            return "sent"

        @tool
        def drop_table(name: str) -> str:
            """Drop it."""
            self.done.append(f"dropped {name}")
            return "dropped"

        calls = [
            {"name": "send_email", "args": {"to": "ada"}, "id": "1"},
            {"name": "drop_table", "args": {"name": "users"}, "id": "2"},
        ]
        interrupt_on = {
            "send_email": True,
            "drop_table": {"allowed_decisions": ["approve", "reject"], "description": "Drop it?"},
        }
        self.graph = create_agent(
            ScriptedModel(AIMessage("", tool_calls=calls), "Done."),
            [send_email, drop_table],
            middleware=[HumanInTheLoopMiddleware(interrupt_on, **how)],
            checkpointer=InMemorySaver(),
        )
