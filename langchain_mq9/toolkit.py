"""The tools of an agent, on one connection, and how nodes of its graphs ask other agents."""

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
    """Asks an agent, found by its address, its name or what it can do, and returns its answer.

    It is not among the tools that ``Mq9Toolkit.get_tools`` returns; ``ask_agent_tool`` returns it.

    Args:
        session: The connection to share.
        mode: ``wait`` to wait for the answer; ``interrupt`` to interrupt the graph, which a
            ``MailboxWorker`` resumes with the answer, however late.
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
    """Return the answer; in the mode ``interrupt``, whom to ask."""
    if mode == "interrupt":
        return await recipient(caller, question)
    gathered = await ask_all(caller, [question], timeout=timeout)
    [answer] = gathered.answers
    return value_of(answer)


def _interrupt(address: str, question: Question) -> Any:
    """Interrupt the graph with a question; return the answer when it is resumed."""
    from langgraph.types import interrupt  # noqa: PLC0415  # only graphs load it

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
    """The options of an agent's tools, and those of the client that they share."""


class Mq9Toolkit(BaseToolkit):
    """Gives an agent its mailbox, as tools for ``create_react_agent`` or ``create_agent``.

    All tools share one connection, made when it is first needed, and work in sync and async code,
    in several threads and on several event loops. Close it with ``close``, ``aclose`` or a ``with``
    block; a forgotten one closes with the process. Inside ``async with`` calls on that event loop
    have a further connection to a server, and take less time.

    Args:
        server: ``memory://name`` or ``sqlite:///path``. Default: the environment's ``MQ9_SERVER``,
            else one file per user.
        agent: The agent that the tools act as: the sender of its messages. Its mailbox (the slug of
            its name, made if it is missing) and group are the defaults, and it reads only its own
            mailbox and those it made. Without it every tool takes explicit addresses.
        tools: The names of the tools to give. Default: all.
        options: See ``AgentOptions``, and further arguments of ``Mq9Client``.

    Raises:
        InvalidRequest: An argument is invalid.
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

        It has its own identity and its own memory of fetched messages, and shares all limits with
        this toolkit. Closing it leaves the connection open; closing this one closes both. A server
        that authenticates agents takes both for the agent of the connection: give each agent a
        toolkit of its own there.

        Args:
            agent: The other agent.
            mail_address: Its mailbox. Default: the slug of its name.
            tools: The names of the tools to give. Default: all.
            allow_read: Patterns of further mailboxes that it may read.
            allow_send: Patterns of mailboxes that it may send to. Default: all.

        Raises:
            InvalidRequest: An argument is invalid.
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
        """Return the tools; the same ones each time."""
        return list(self._tools)

    @property
    def session(self) -> Session:
        """The state that the tools share."""
        return self._session

    def unread(self, config: RunnableConfig | None = None) -> Unread:
        """Return how much mail waits for the agent, without taking any.

        Args:
            config: The configuration of a run, whose thread's private mailbox counts, too.

        Raises:
            InvalidRequest: The tools belong to no agent.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        return self._session.run(unread_of, config or {})

    async def aunread(self, config: RunnableConfig | None = None) -> Unread:
        """Return how much mail waits for the agent, from async code; see ``unread``."""
        return await self._session.arun(unread_of, config or {})

    def ask_agent_tool(self, mode: Mode = "wait") -> AskAgentTool:
        """Return a tool with which a model asks an agent; see ``AskAgentTool``.

        Args:
            mode: ``wait`` or ``interrupt``; see ``ask_agent``.
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
        """Ask an agent in a node of a graph, and return its answer: its JSON, or else its text.

        In a thread the same question in the same step is asked once: a node that is run again, also
        after a crash, asks the same agent and gets the answer that came in the meantime.

        Args:
            content: The question: text, bytes, or anything that JSON can write.
            to: The mailbox address of the agent, or the name of a registered one.
            capability: Instead, what the agent must be able to do, in words of its own card.
            timeout: Seconds to wait for the answer; more than 0.
            mode: ``wait``, or ``interrupt`` to interrupt the graph with ``{"type": "question",
                "to": …, "text": …}``, or ``"content"`` in place of ``"text"`` for other bodies.
                A ``MailboxWorker`` mails that and resumes the graph with the answer, however late.
            id: Distinguishes the question from the same one elsewhere in the node.
            config: The configuration of the node. Default: that of the current run.

        Raises:
            NoReply: No answer came in time; a node that is run again waits for it again.
            RequestFailed: The other agent gave the question up. A node that is run again raises it
                again, unless a good answer has come.
            AgentNotFound: No agent can do that.
            MailboxNotFound: The mailbox does not exist.
            Mq9Error: The question cannot be sent.
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
        """Ask an agent in a node of a graph, awaited on any event loop; see ``ask_agent``."""
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

        In a thread each question is asked once: a node that is run again gets the answers that came
        in the meantime.

        Args:
            questions: The questions, up to 1 000.
            timeout: Seconds to wait for the answers; more than 0.
            minimum: Number of answers that is enough when the time is over. Default: all.
            id: Distinguishes them from the same questions elsewhere in the node.
            config: The configuration of the node. Default: that of the current run.

        Returns:
            The messages in the order of the questions; None for a missing answer.

        Raises:
            NoReply: Fewer than ``minimum`` answers came in time; ``gathered`` has them.
            RequestFailed: Too many agents gave their question up; ``gathered`` has the answers.
            AgentNotFound: No agent can do what one of them asks for.
            Mq9Error: Too many questions cannot be sent.
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
        """Ask several agents at once, awaited on any event loop; see ``gather``."""
        ask = partial(ask_all, questions=questions, timeout=timeout, minimum=minimum)
        return await self.session.arun(ask, with_call(ensure_config(config), step=id))

    def unregister(self) -> None:
        """Take the agent out of the registry; its mailbox stays.

        Raises:
            InvalidRequest: The tools belong to no agent.
            AgentNotFound: It is not registered.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        self._session.unregister()

    async def aunregister(self) -> None:
        """Take the agent out of the registry, from async code; see ``unregister``."""
        await self._session.aunregister()

    def close(self) -> None:
        """Close the connection, unless it is another toolkit's. May be repeated."""
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
    """Return the kinds of tools of these names; all when None are given."""
    if isinstance(tools, str):
        raise InvalidRequest(f"tools: {tools!r} is one text; give a list of names")
    known = {tool.operation.name: tool for tool in TOOLS}
    wanted = list(known) if tools is None else list(tools)
    for name in wanted:
        if name not in list(known):  # even what cannot be hashed
            raise InvalidRequest(f"tools: {name!r} is not one of {', '.join(known)}")
    return [known[name] for name in wanted]
