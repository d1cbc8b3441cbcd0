"""Asking other agents: as a tool of a model, and in a node of a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import orjson
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import ToolException
from pydantic import PrivateAttr

from langchain_mq9.calls import with_step_id
from langchain_mq9.session import Session
from langchain_mq9.tool import Mq9Tool
from mq9 import Gathered, InvalidRequest, Mq9Error, Payload
from mq9.client.error_answers import ErrorAnswer
from mq9.operations import Operation
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
from mq9.operations.execution import explained
from mq9.operations.message_views import visible
from mq9.operations.operation import Result

__all__ = ["AskAgentTool", "AskingMethods", "Mode", "Question"]

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
            address = self._session.run(lambda caller: recipient(caller, question), config)
            return _told(_interrupt(address, question))
        except Mq9Error as error:
            raise ToolException(str(explained(error, ask_agent, self._session.tools))) from error

    async def _arun(self, *, config: RunnableConfig, arguments: Any = None) -> tuple[str, Result]:
        if self._mode == "wait":
            return await super()._arun(config=config, arguments=arguments)
        try:
            question = question_in(arguments)
            address = await self._session.arun(lambda caller: recipient(caller, question), config)
            return _told(_interrupt(address, question))
        except Mq9Error as error:
            raise ToolException(str(explained(error, ask_agent, self._session.tools))) from error


class AskingMethods(ABC):
    """What ``Mq9Toolkit`` offers to nodes that ask."""

    @property
    @abstractmethod
    def session(self) -> Session:
        """The session of the agent that asks."""

    def ask_agent_tool(self, mode: Mode = "wait") -> AskAgentTool:
        """Return a tool with which a model asks an agent and gets its answer; see there."""
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

        In a thread the same question in the same step is asked once: when the program is killed
        and the thread is resumed, the node gets the answer that came meanwhile. An agent that was
        found by what it can do is asked again then, whoever would be found by now.

        Args:
            content: The question: text, bytes, or anything that JSON can write.
            to: The mailbox address of whom to ask, or the name of a registered agent.
            capability: Instead, what the agent must be able to do, in words of its own card.
            timeout: Seconds to wait for the answer; more than 0.
            mode: ``wait``, or ``interrupt`` to interrupt the graph with ``{"type": "question",
                "to": …, "text": …}``, or ``"content"`` in place of ``"text"`` where it is no text.
                A ``MailboxWorker`` mails that and resumes the graph with the answer, however late.
            id: What tells the question from the same one elsewhere in the node; none by default.
            config: The configuration that the node was given; by default that of the current run.

        Raises:
            NoReply: No answer came in time; when the node is run again, it waits for it again.
            RequestFailed: The agent that was asked gave the question up. The node raises it again
                when it is run again, unless a good answer has come.
            AgentNotFound: Nobody can do what is asked for.
            MailboxNotFound: There is no such mailbox.
            Mq9Error: The question cannot be sent.
        """
        question, known = _asked(content, to, capability), _known(config, id)
        if _checked(mode) == "interrupt":
            address = self.session.run(lambda caller: recipient(caller, question), known)
            return _interrupt(address, question)
        gathered = self.session.run(
            lambda caller: ask_all(caller, [question], timeout=timeout), known
        )
        return _value(gathered)

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
        question, known = _asked(content, to, capability), _known(config, id)
        if _checked(mode) == "interrupt":
            address = await self.session.arun(lambda caller: recipient(caller, question), known)
            return _interrupt(address, question)
        gathered = await self.session.arun(
            lambda caller: ask_all(caller, [question], timeout=timeout), known
        )
        return _value(gathered)

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

        In a thread each question is asked once, and answers that came before the program was
        killed, or after the time was over, are there when the node is run again.

        Args:
            questions: The questions, up to 1 000.
            timeout: Seconds to wait for the answers; more than 0.
            minimum: With how many to be content at the end of that time; all by default.
            id: What tells them from the same questions elsewhere in the node; none by default.
            config: The configuration that the node was given; by default that of the current run.

        Returns:
            The messages in the order of the questions; None where no answer came.

        Raises:
            NoReply: Fewer than ``minimum`` answers came in time, which are its ``gathered``.
            RequestFailed: So many agents gave their question up that ``minimum`` cannot be
                reached; its ``gathered`` has what came until then.
            AgentNotFound: Nobody can do what one of them asks for.
            Mq9Error: So many cannot be sent that ``minimum`` cannot be reached.
        """
        return self.session.run(
            lambda caller: ask_all(caller, questions, timeout=timeout, minimum=minimum),
            _known(config, id),
        )

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
        return await self.session.arun(
            lambda caller: ask_all(caller, questions, timeout=timeout, minimum=minimum),
            _known(config, id),
        )


def _checked(mode: Mode) -> Mode:
    if mode not in {"wait", "interrupt"}:
        raise InvalidRequest(f"mode: {mode!r} is neither wait nor interrupt")
    return mode


def _asked(content: Payload, to: str | None, capability: str | None) -> Question:
    return Question(content, to=to, capability=capability)


def _known(config: RunnableConfig | None, step_id: str | None) -> RunnableConfig:
    return with_step_id(ensure_config(config), step_id)


def _value(gathered: Gathered) -> Any:
    [answer] = gathered.answers
    return value_of(answer)


def _interrupt(address: str, question: Question) -> Any:
    """Interrupt the graph with a question; return the answer when it is resumed.

    Raises:
        RequestFailed: The answer is an error answer.
    """
    from langgraph.types import interrupt  # noqa: PLC0415  # loaded by whoever runs a graph

    content = question.content
    said = {"text": content} if isinstance(content, str) else {"content": content}
    answer = interrupt({"type": "question", "to": address, **said})
    failed = ErrorAnswer.of_value(answer)
    if failed is not None:
        raise failed.as_error(address)
    return answer


def _told(answer: Any) -> tuple[str, Result]:
    text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    result = AskResult(untrusted_content=visible(text))
    return result.content(), result
