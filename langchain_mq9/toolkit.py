"""The tools of an agent on one connection, and questions from graph nodes to other agents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self, Unpack

import orjson
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import PrivateAttr

from langchain_mq9.calls import with_call
from langchain_mq9.inbox import unread_of
from langchain_mq9.session import AgentOptions, Session
from langchain_mq9.tool import Mq9Tool
from langchain_mq9.tools import TOOLS
from mq9 import ClientOptions, ErrorAnswer, Gathered, InvalidRequest, Mq9Error, Payload
from mq9.client.consumer import takes
from mq9.models import Unread
from mq9.operations.ask import (
    DEFAULT_TIMEOUT_S,
    AskResult,
    Question,
    ask_agent,
    ask_all,
    question_in,
    recipient,
    value_of,
)
from mq9.operations.caller import Caller
from mq9.operations.execution import explained
from mq9.operations.message_views import visible
from mq9.operations.operation import Operation, Result

Mode = Literal["wait", "interrupt"]


class AskAgentTool(Mq9Tool):
    """Asks an agent and returns its answer. The model gives an address, a name or a capability.

    ``Mq9Toolkit.get_tools`` does not return this tool. ``Mq9Toolkit.ask_agent_tool`` does.

    Args:
        session: The connection to share.
        mode: ``wait`` waits for the answer. ``interrupt`` interrupts the graph, and a
            ``MailboxWorker`` resumes it when the answer arrives, without a time limit. Default:
            ``wait``.
    """

    operation: ClassVar[Operation[Any, Any]] = ask_agent
    _mode: Mode = PrivateAttr()

    def __init__(self, *, session: Session, mode: Mode = "wait") -> None:
        super().__init__(session=session)
        self._mode = _checked(mode)

    def _run(self, *, config: RunnableConfig, arguments: Any = None) -> tuple[str, Result]:
        if self._mode == "wait":
            return super()._run(config=config, arguments=arguments)
        try:
            question = question_in(arguments)
            address = self._session.run(partial(recipient, question=question), config)
            return _interrupted(address, question)
        except Mq9Error as error:
            raise self._failed(error) from error

    async def _arun(self, *, config: RunnableConfig, arguments: Any = None) -> tuple[str, Result]:
        if self._mode == "wait":
            return await super()._arun(config=config, arguments=arguments)
        try:
            question = question_in(arguments)
            address = await self._session.arun(partial(recipient, question=question), config)
            return _interrupted(address, question)
        except Mq9Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Mq9Error) -> ToolException:
        return ToolException(str(explained(error, ask_agent, self._session.tools)))


def _checked(mode: Mode) -> Mode:
    if mode not in {"wait", "interrupt"}:
        raise InvalidRequest(f"mode: {mode!r} is neither wait nor interrupt")
    return mode


async def _ask(caller: Caller, question: Question, mode: Mode, timeout: float) -> Any:
    """Return the answer. In the mode ``interrupt``, return the address to ask."""
    if mode == "interrupt":
        return await recipient(caller, question)
    gathered = await ask_all(caller, [question], timeout=timeout)
    [answer] = gathered.answers
    return value_of(answer)


def _interrupt(address: str, question: Question) -> Any:
    """Interrupt the graph with a question. Return the answer after the graph resumes."""
    from langgraph.types import interrupt  # noqa: PLC0415  # loaded only in graphs

    content = question.content
    said = {"text": content} if isinstance(content, str) else {"content": content}
    answer = interrupt({"type": "question", "to": address, **said})
    failed = ErrorAnswer.of_value(answer)
    if failed is not None:
        raise failed.as_error(address)
    return answer


def _interrupted(address: str, question: Question) -> tuple[str, Result]:
    answer = _interrupt(address, question)
    text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    result = AskResult(untrusted_content=visible(text))
    return result.content(), result


class ToolkitOptions(AgentOptions, ClientOptions, total=False):
    """The options of an agent's tools, and of the client that they share."""


class Mq9Toolkit(BaseToolkit):
    """Gives an agent its mailbox, as tools for ``create_react_agent`` or ``create_agent``.

    All tools share one connection, opened on first use. They work in sync and async code, in
    several threads and on several event loops. Close it with ``close``, ``aclose`` or a ``with``
    block. Otherwise it closes with the process. Inside ``async with``, calls on that event loop
    have a further connection to a server and are faster.

    Args:
        server: ``memory://name`` or ``sqlite:///path``. Default: the environment variable
            ``MQ9_SERVER``, or else one file per user.
        agent: The agent of the tools, which is the sender of its messages. Tools use its mailbox
            (the slug of its name) and group by default, and create the mailbox if it is missing.
            The agent reads only its own mailbox and those that it created. Without an agent, every
            tool needs explicit addresses. Default: none.
        tools: The names of the tools. Default: all.
        options: See ``AgentOptions``, and further arguments of ``Mq9Client``.

    Raises:
        InvalidRequest: An argument is invalid.

    Example:
        ```python
        toolkit = Mq9Toolkit(agent="planner")
        app = create_agent(model, toolkit.get_tools())
        ```
    """

    _session: Session = PrivateAttr()
    _tools: list[BaseTool] = PrivateAttr()

    @takes(ToolkitOptions)
    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        tools: Sequence[str] | None = None,
        **options: Unpack[ToolkitOptions],
    ) -> None:
        super().__init__()
        kinds = _chosen(tools)
        own: Any = {
            name: one for name, one in options.items() if name in AgentOptions.__annotations__
        }
        client_options: Any = {name: one for name, one in options.items() if name not in own}
        session = Session(
            server,
            agent=agent,
            client_options=client_options,
            tools=[kind.operation.name for kind in kinds],
            **own,
        )
        self._bind(session, kinds)

    def for_agent(
        self,
        agent: str,
        *,
        mail_address: str | None = None,
        tools: Sequence[str] | None = None,
        allow_read: Sequence[str] = (),
        allow_send: Sequence[str] | None = None,
    ) -> Self:
        """Return a toolkit for another agent, on the connection of this one.

        It has its own identity and its own memory of fetched messages, and the same limits as this
        toolkit. Closing it leaves the connection open. Closing this toolkit closes both. A server
        that authenticates agents sees both as the agent of the connection. There, create a toolkit
        for each agent instead.

        Args:
            agent: The other agent.
            mail_address: Its mailbox. Default: the slug of its name.
            tools: The names of the tools. Default: all.
            allow_read: Patterns of further mailboxes that it may read. Default: none.
            allow_send: Patterns of mailboxes that it may send to. Default: all.

        Raises:
            InvalidRequest: An argument is invalid.

        Example:
            ```python
            reviewer = toolkit.for_agent("reviewer").get_tools()
            ```
        """
        kinds = _chosen(tools)
        session = self._session.for_agent(
            agent,
            mail_address=mail_address,
            allow_read=allow_read,
            allow_send=allow_send,
            tools=[kind.operation.name for kind in kinds],
        )
        toolkit = self.model_construct()
        toolkit._bind(session, kinds)  # noqa: SLF001  # its own class
        return toolkit

    def _bind(self, session: Session, kinds: Sequence[type[Mq9Tool]]) -> None:
        self._session = session
        self._tools = [kind(session=session) for kind in kinds]

    def get_tools(self) -> list[BaseTool]:
        """Return the tools. Each call returns the same ones."""
        return list(self._tools)

    @property
    def session(self) -> Session:
        """The state that the tools share."""
        return self._session

    def unread(self, config: RunnableConfig | None = None) -> Unread:
        """Count the unread messages of the agent, without leasing them.

        Args:
            config: The configuration of a run. The private mailbox of its thread also counts.
                Default: none.

        Raises:
            InvalidRequest: The tools have no agent.
            Mq9Error: The broker refuses the request, or is out of reach.

        Example:
            ```python
            print(toolkit.unread().total)
            ```
        """
        return self._session.run(unread_of, config or {})

    async def aunread(self, config: RunnableConfig | None = None) -> Unread:
        """Count the unread messages of the agent, from async code; see ``unread``."""
        return await self._session.arun(unread_of, config or {})

    def ask_agent_tool(self, mode: Mode = "wait") -> AskAgentTool:
        """Return a tool for a model to ask an agent; see ``AskAgentTool``.

        Args:
            mode: ``wait`` or ``interrupt``; see ``ask_agent``. Default: ``wait``.
        """
        return AskAgentTool(session=self.session, mode=mode)

    def ask_agent(
        self,
        content: Payload,
        *,
        to: str | None = None,
        capability: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        mode: Mode = "wait",
        id: str | None = None,  # noqa: A002  # as gather calls it
        config: RunnableConfig | None = None,
    ) -> Any:
        """Ask an agent in a node of a graph, and return its answer as parsed JSON or text.

        A thread asks the same question in the same step only once. If the node runs again, even
        after a crash, it asks the same agent and gets the answer that arrived in the meantime.

        Args:
            content: The question: text, bytes, or any JSON value.
            to: The mailbox address of the agent, or the name of a registered one.
            capability: Instead of ``to``, the capability of the agent in the words of its card.
            timeout: Seconds to wait for the answer, more than 0. Default: 60.
            mode: ``wait``, or ``interrupt`` to interrupt the graph with ``{"type": "question",
                "to": …, "text": …}``. For other bodies it has ``"content"`` instead of ``"text"``.
                A ``MailboxWorker`` mails the question and resumes the graph when the answer
                arrives, without a time limit. Default: ``wait``.
            id: Distinguishes the question from the same one elsewhere in the node.
            config: The configuration of the node. Default: that of the current run.

        Raises:
            NoReply: No answer arrived in time. If the node runs again, it waits again.
            RequestFailed: The other agent gave the question up. If the node runs again, it raises
                this again, unless a good answer has arrived.
            AgentNotFound: No agent has the capability.
            MailboxNotFound: The mailbox does not exist.
            Mq9Error: The question cannot be sent.

        Example:
            ```python
            answer = toolkit.ask_agent("How many roses are left?", to="florist")
            ```
        """
        question = Question(content, to=to, capability=capability)
        ask = partial(_ask, question=question, mode=_checked(mode), timeout=timeout)
        found = self.session.run(ask, with_call(ensure_config(config), step=id))
        return _interrupt(found, question) if mode == "interrupt" else found

    async def aask_agent(
        self,
        content: Payload,
        *,
        to: str | None = None,
        capability: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        mode: Mode = "wait",
        id: str | None = None,  # noqa: A002  # as gather calls it
        config: RunnableConfig | None = None,
    ) -> Any:
        """Ask an agent in a node of a graph, from async code; see ``ask_agent``."""
        question = Question(content, to=to, capability=capability)
        ask = partial(_ask, question=question, mode=_checked(mode), timeout=timeout)
        found = await self.session.arun(ask, with_call(ensure_config(config), step=id))
        return _interrupt(found, question) if mode == "interrupt" else found

    def gather(
        self,
        questions: Sequence[Question],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        minimum: int | None = None,
        id: str | None = None,  # noqa: A002  # as Mq9Client.gather calls it
        config: RunnableConfig | None = None,
    ) -> Gathered:
        """Ask several agents at once in a node of a graph, and return their answers.

        A thread asks each question only once. If the node runs again, it gets the answers that
        arrived in the meantime.

        Args:
            questions: The questions, up to 1 000.
            timeout: Seconds to wait for the answers, more than 0. Default: 60.
            minimum: The number of answers that are enough at the end of ``timeout``. Default: all.
            id: Distinguishes them from the same questions elsewhere in the node.
            config: The configuration of the node. Default: that of the current run.

        Returns:
            The messages in the order of the questions. None for a missing answer.

        Raises:
            NoReply: Fewer than ``minimum`` answers arrived in time. They are in ``gathered``.
            RequestFailed: Too many agents gave their question up. ``gathered`` has the answers.
            AgentNotFound: No agent has the capability in one of the questions.
            Mq9Error: ``minimum`` is out of reach because questions cannot be sent.

        Example:
            ```python
            questions = [Question("Roses?", to="florist"), Question("Tulips?", to="florist")]
            answers = toolkit.gather(questions, timeout=60, minimum=1)
            ```
        """
        ask = partial(ask_all, questions=questions, timeout=timeout, minimum=minimum)
        return self.session.run(ask, with_call(ensure_config(config), step=id))

    async def agather(
        self,
        questions: Sequence[Question],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        minimum: int | None = None,
        id: str | None = None,  # noqa: A002  # as Mq9Client.gather calls it
        config: RunnableConfig | None = None,
    ) -> Gathered:
        """Ask several agents at once, from async code; see ``gather``."""
        ask = partial(ask_all, questions=questions, timeout=timeout, minimum=minimum)
        return await self.session.arun(ask, with_call(ensure_config(config), step=id))

    def unregister(self) -> None:
        """Remove the agent from the registry. Its mailbox stays.

        Raises:
            InvalidRequest: The tools have no agent.
            AgentNotFound: The agent is not registered.
            Mq9Error: The broker refuses the request, or is out of reach.
        """
        self._session.unregister()

    async def aunregister(self) -> None:
        """Remove the agent from the registry, from async code; see ``unregister``."""
        await self._session.aunregister()

    def close(self) -> None:
        """Close the connection, unless it is another toolkit's. You may repeat this."""
        self._session.close()

    async def aclose(self) -> None:
        """Close the connection, from async code; see ``close``."""
        await self._session.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._session.enter()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


def _chosen(tools: Sequence[str] | None) -> list[type[Mq9Tool]]:
    """Return the tool classes with these names. None means all."""
    if isinstance(tools, str):
        raise InvalidRequest(f"tools: {tools!r} is one text; give a list of names")
    known = {tool.operation.name: tool for tool in TOOLS}
    wanted = list(known) if tools is None else list(tools)
    for name in wanted:
        if name not in list(known):  # a list, because the name may be unhashable
            raise InvalidRequest(f"tools: {name!r} is not one of {', '.join(known)}")
    return [known[name] for name in wanted]
