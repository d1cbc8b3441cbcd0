"""The eight tools, each made of one operation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import ArgsSchema
from pydantic import PrivateAttr

from langchain_mq9.session import Session
from mq9.operations import Operation, OperationError
from mq9.operations.acks import ACK_MESSAGES
from mq9.operations.discovery import AGENT_DISCOVER
from mq9.operations.fetch import FETCH_MESSAGES
from mq9.operations.mailboxes import CREATE_MAILBOX
from mq9.operations.messages import DELETE_MESSAGE, QUERY_MESSAGES, SEND_MESSAGE
from mq9.operations.registration import AGENT_REGISTER
from mq9.operations.result import Result


class Mq9Tool(BaseTool):
    """A tool made of an operation.

    The content is compact JSON for the model, the artifact the result as a typed object. What goes
    wrong reaches the model as an error message that says what to do next; the run goes on.

    Args:
        session: The connection to share; ``Mq9Toolkit`` gives all its tools the same one.
        options: Without a session, the arguments of one of the tool's own (see ``Session``), which
            ``close`` closes.
    """

    operation: ClassVar[Operation[Any, Any]]

    name: str = ""
    description: str = ""
    args_schema: ArgsSchema | None = None
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    _session: Session = PrivateAttr()
    _own_session: Session | None = PrivateAttr(default=None)

    def __init__(self, *, session: Session | None = None, **options: Any) -> None:
        operation = self.operation
        used = Session(**options) if session is None else session
        super().__init__(
            name=operation.name,
            description=used.tools.text(operation.description),
            args_schema=operation.arguments,
        )
        self._session = used
        self._own_session = used if session is None else None

    def close(self) -> None:
        """Let go of the tool's own connection; a shared one is left alone. May be repeated."""
        if self._own_session is not None:
            self._own_session.close()

    async def aclose(self) -> None:
        """Let go of the tool's own connection; a shared one is left alone. May be repeated."""
        if self._own_session is not None:
            await self._own_session.aclose()

    def _run(self, *, config: RunnableConfig, **arguments: Any) -> tuple[str, Result]:
        try:
            result = self._session.perform(
                self.operation, self.operation.arguments(**arguments), config
            )
        except OperationError as error:
            raise ToolException(str(error)) from error
        return result.content(), result

    async def _arun(self, *, config: RunnableConfig, **arguments: Any) -> tuple[str, Result]:
        try:
            result = await self._session.aperform(
                self.operation, self.operation.arguments(**arguments), config
            )
        except OperationError as error:
            raise ToolException(str(error)) from error
        return result.content(), result


class AgentRegisterTool(Mq9Tool):
    """Makes the agent known to others."""

    operation = AGENT_REGISTER


class AgentDiscoverTool(Mq9Tool):
    """Finds agents by what they can do."""

    operation = AGENT_DISCOVER


class CreateMailboxTool(Mq9Tool):
    """Makes another mailbox."""

    operation = CREATE_MAILBOX


class SendMessageTool(Mq9Tool):
    """Sends a message."""

    operation = SEND_MESSAGE


class FetchMessagesTool(Mq9Tool):
    """Takes messages to work on."""

    operation = FETCH_MESSAGES


class AckMessagesTool(Mq9Tool):
    """Confirms fetched messages, gives them back, or keeps them for longer."""

    operation = ACK_MESSAGES


class QueryMessagesTool(Mq9Tool):
    """Looks at stored messages."""

    operation = QUERY_MESSAGES


class DeleteMessageTool(Mq9Tool):
    """Deletes a message."""

    operation = DELETE_MESSAGE


TOOLS: tuple[type[Mq9Tool], ...] = (
    AgentRegisterTool,
    AgentDiscoverTool,
    CreateMailboxTool,
    SendMessageTool,
    FetchMessagesTool,
    AckMessagesTool,
    QueryMessagesTool,
    DeleteMessageTool,
)
