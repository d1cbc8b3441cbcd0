"""A LangChain tool for an operation."""

# Annotations must not be text: LangChain reads those of ``_run`` and ``_arun`` with every call and
# would compile each text.

from types import new_class
from typing import Any, ClassVar, Literal, Unpack

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import ArgsSchema
from pydantic import PrivateAttr

from langchain_mq9.calls import with_call
from langchain_mq9.session import Session, SessionOptions
from mq9.operations.execution import OperationError
from mq9.operations.operation import Arguments, Operation, Result
from mq9.operations.tool_names import ToolNames


class Mq9Tool(BaseTool):
    """A tool for an operation.

    The content is compact JSON for the model. The artifact is the result as a typed object. An
    error reaches the model as a message with the next step, and the run continues.

    Args:
        session: The connection to share. ``Mq9Toolkit`` gives all its tools the same one.
        options: Without ``session``, the arguments of the tool's own (see ``Session``). ``close``
            closes it.
    """

    operation: ClassVar[Operation[Any, Any]]

    name: str = ""
    description: str = ""
    args_schema: ArgsSchema | None = None
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    _session: Session = PrivateAttr()
    _own_session: Session | None = PrivateAttr(default=None)

    def __init__(
        self, *, session: Session | None = None, **options: Unpack[SessionOptions]
    ) -> None:
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
        """Close the tool's own connection. A shared connection stays open. You may repeat this."""
        if self._own_session is not None:
            self._own_session.close()

    async def aclose(self) -> None:
        """Close the tool's own connection. A shared connection stays open. You may repeat this."""
        if self._own_session is not None:
            await self._own_session.aclose()

    def run(
        self,
        tool_input: str | dict[str, Any],
        *args: Any,
        config: RunnableConfig | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool, as ``BaseTool.run`` does, and name the tool call in its configuration."""
        known = with_call(config or {}, tool_call=tool_call_id)
        return super().run(tool_input, *args, config=known, tool_call_id=tool_call_id, **kwargs)

    async def arun(
        self,
        tool_input: str | dict[str, Any],
        *args: Any,
        config: RunnableConfig | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool, as ``BaseTool.arun`` does, and name the tool call in its configuration."""
        known = with_call(config or {}, tool_call=tool_call_id)
        return await super().arun(
            tool_input, *args, config=known, tool_call_id=tool_call_id, **kwargs
        )

    def _parse_input(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> str | dict[str, Any]:
        if isinstance(tool_input, str):
            return super()._parse_input(tool_input, tool_call_id)
        # ``BaseTool`` would search all annotations for injected arguments. There are none.
        return {"arguments": self.operation.arguments.model_validate(tool_input)}

    def _filter_injected_args(self, tool_input: dict[str, Any]) -> dict[str, Any]:
        return dict(tool_input)  # for callbacks: no argument is injected

    def _run(
        self, *, config: RunnableConfig, arguments: Arguments | None = None
    ) -> tuple[str, Result]:
        try:
            result = self._session.perform(
                self.operation, arguments or self.operation.arguments(), config
            )
        except OperationError as error:
            raise ToolException(str(error)) from error
        return result.content(), result

    async def _arun(
        self, *, config: RunnableConfig, arguments: Arguments | None = None
    ) -> tuple[str, Result]:
        try:
            result = await self._session.aperform(
                self.operation, arguments or self.operation.arguments(), config
            )
        except OperationError as error:
            raise ToolException(str(error)) from error
        return result.content(), result


def tool_class(operation: Operation[Any, Any], module: str) -> type[Mq9Tool]:
    """Create the tool class of an operation for a module, such as ``SendMessageTool``."""
    description = ToolNames().text(operation.description)
    namespace = {
        "__module__": module,
        "__doc__": f"{operation.title}.\n\n{description}",
        "operation": operation,
    }
    name = "".join(word.capitalize() for word in operation.name.split("_")) + "Tool"
    return new_class(name, (Mq9Tool,), exec_body=lambda body: body.update(namespace))
