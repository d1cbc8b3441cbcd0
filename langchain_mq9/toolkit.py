"""The tools of an agent, on one connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, Unpack

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import PrivateAttr

from langchain_mq9.asking import AskingMethods
from langchain_mq9.session import Inbox, Session
from langchain_mq9.tool import Mq9Tool
from langchain_mq9.tools import TOOLS
from mq9 import ClientOptions, InvalidRequest
from mq9.models import Unread
from mq9.operations.conversations import DEFAULT_MAX_HOPS
from mq9.operations.identity import DEFAULT_HOLD_S, DEFAULT_MAX_CHARS, DEFAULT_REGISTRATION_TTL_S
from mq9.operations.waiting import unread_of


class Mq9Toolkit(AskingMethods, BaseToolkit):
    """Gives an agent its mailbox, as tools for ``create_react_agent`` or ``create_agent``.

    All tools share one connection, made when it is first needed; they may be used from sync and
    async code, from several threads and from several event loops. Close it with ``close``,
    ``aclose`` or a ``with`` block; one that is forgotten closes with the process. Inside ``async
    with`` calls on that event loop have a further connection to a server, and take less time.

    Args:
        server: ``memory://name`` or ``sqlite:///path``; without it the environment's
            ``MQ9_SERVER``, else one file per user.
        agent: The agent that the tools act as. Its mailbox (the slug of its name, made if it is
            missing) and group are the defaults, it is the sender of what it sends, and it may read
            only its own mailbox and those it made. Without it every tool takes explicit addresses.
        mail_address: The agent's mailbox, when the slug of its name will not do.
        tools: The names of the tools to give; all by default.
        allow_read: Patterns of further mailboxes that the agent may read, such as ``team.*``.
        allow_send: Patterns of mailboxes that the agent may send to; all by default.
        lease_ms: Milliseconds that fetched messages stay leased, 1 000 to 86 400 000.
        max_chars: How many characters of message bodies one result may hold, at least 100.
        registration_ttl: After how many seconds of silence the agent's registration
            expires; 30 days by default, 0 means never.
        max_hops: How many agents a conversation may have passed through, 1 to 63.
        dead_letter: The mailbox for messages whose conversation goes in a circle or too far; by
            default the agent's own with ``.dead`` behind it.
        hold: For how many seconds after it was fetched the lease of a message is renewed, while
            this process lives and the message is not dealt with; an hour by default, 0 for not at
            all.
        inbox: With ``"thread"``, what the agent sends in a LangGraph thread is answered in a
            private mailbox of that thread, from which it fetches first; with ``"agent"`` all
            threads share the agent's mailbox.
        client_options: Further arguments of ``Mq9Client``.

    Raises:
        InvalidRequest: An argument is not what it must be.
    """

    _session: Session = PrivateAttr()
    _tools: list[BaseTool] = PrivateAttr()

    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        mail_address: str | None = None,
        tools: Sequence[str] | None = None,
        allow_read: Sequence[str] = (),
        allow_send: Sequence[str] | None = None,
        lease_ms: int = 60_000,
        max_chars: int = DEFAULT_MAX_CHARS,
        registration_ttl: int = DEFAULT_REGISTRATION_TTL_S,
        max_hops: int = DEFAULT_MAX_HOPS,
        dead_letter: str | None = None,
        inbox: Inbox = "thread",
        hold: int = DEFAULT_HOLD_S,
        **client_options: Unpack[ClientOptions],
    ) -> None:
        super().__init__()
        kinds = _chosen(tools)
        session = Session(
            server,
            agent=agent,
            mail_address=mail_address,
            allow_read=allow_read,
            allow_send=allow_send,
            lease_ms=lease_ms,
            max_chars=max_chars,
            registration_ttl=registration_ttl,
            max_hops=max_hops,
            dead_letter=dead_letter,
            inbox=inbox,
            hold=hold,
            client_options=client_options,
            tools=[kind.operation.name for kind in kinds],
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

        It has an identity and a memory of what it fetched of its own; lease, limit of text,
        registration and inbox are those of this toolkit. Closing it leaves the connection open, and
        closing this one closes it for both. Where a server knows agents by their credentials, the
        connection stays that of the agent it was made for: give each agent a toolkit of its own.

        Args:
            agent: The other agent.
            mail_address: Its mailbox, when the slug of its name will not do.
            tools: The names of the tools to give; all by default.
            allow_read: Patterns of further mailboxes that it may read.
            allow_send: Patterns of mailboxes that it may send to; all by default.

        Raises:
            InvalidRequest: An argument is not what it must be.
        """
        kinds = _chosen(tools)
        toolkit = self.model_construct()
        toolkit._bind(  # noqa: SLF001  # its own class
            self._session.for_agent(
                agent,
                mail_address=mail_address,
                allow_read=allow_read,
                allow_send=allow_send,
                tools=[kind.operation.name for kind in kinds],
            ),
            kinds,
        )
        return toolkit

    def _bind(self, session: Session, kinds: Sequence[type[Mq9Tool]]) -> None:
        self._session = session
        self._tools = [kind(session=session) for kind in kinds]

    def get_tools(self) -> list[BaseTool]:
        """Return the tools; the same ones each time."""
        return list(self._tools)

    @property
    def session(self) -> Session:
        """What the tools share."""
        return self._session

    def unread(self, config: RunnableConfig | None = None) -> Unread:
        """Return how much mail waits for the agent, and takes none of it.

        Args:
            config: The configuration of a run, whose thread's private mailbox is counted, too.

        Raises:
            InvalidRequest: The tools belong to no agent.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        return self._session.run(unread_of, config or {})

    async def aunread(self, config: RunnableConfig | None = None) -> Unread:
        """Return how much mail waits for the agent, from async code; see ``unread``."""
        return await self._session.arun(unread_of, config or {})

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
        """Let go of the connection and its thread, unless they are another toolkit's.

        Harmless when repeated.
        """
        self._session.close()

    async def aclose(self) -> None:
        """Let go of the connection and its thread, from async code; see ``close``."""
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
