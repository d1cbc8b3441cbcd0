"""The client for code without an event loop: the same methods, each blocking."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Annotated, Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, Unpack, cast

from mq9.client.client import Mq9Client
from mq9.client.connection import UnreadWatch
from mq9.client.consumer import Consumer, ConsumerCounters
from mq9.client.consumer.calls import is_coroutine_function
from mq9.client.consumer.options import CALLABLE, CommonOptions
from mq9.client.options import ClientOptions, takes
from mq9.client.sync_messages import SyncMessage, as_sync
from mq9.clock import Clock
from mq9.concurrency.portal import Portal, Stopped
from mq9.errors import NoReply, NotConnected, RequestFailed
from mq9.models import ConversationMessage, ConversationMessages, FetchResult, Gathered, Message

# A plain function may block, and so may the methods of its message. A coroutine function awaits.
SyncHandler: TypeAlias = (
    Callable[[SyncMessage], object] | Callable[[Message], Coroutine[Any, Any, object]]
)
SyncGivingUp: TypeAlias = (
    Callable[[SyncMessage, Exception | None], object]
    | Callable[[Message, Exception | None], Coroutine[Any, Any, object]]
)
SyncErrorHandler: TypeAlias = (
    Callable[[SyncMessage, Exception], object]
    | Callable[[Message, Exception], Coroutine[Any, Any, object]]
)


class SyncConsumerOptions(CommonOptions, total=False):
    """The options of ``ConsumerOptions``, for a consumer of ``SyncMq9Client``."""

    error_handler: Annotated[SyncErrorHandler | None, CALLABLE]
    before_dead_letter: Annotated[SyncGivingUp | None, CALLABLE]


S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _with_parameters_of(
    original: Callable[Concatenate[Any, P], object],
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """Return a decorator that gives a method the parameters of another."""

    def decorate(method: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        @_wraps(original)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, *args, **kwargs)

        return call

    return decorate


def _wraps(method: Callable[..., object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator like `functools.wraps` whose docstring has the examples without await."""

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        functools.update_wrapper(call, method)
        call.__doc__ = (method.__doc__ or "").replace("await ", "")
        return call

    return decorate


def _blocking(
    method: Callable[Concatenate[Mq9Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncMq9Client, P], T]:
    """Return a method of the client in a blocking form."""

    @_wraps(method)
    def call(self: SyncMq9Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(lambda client: method(client, *args, **kwargs))

    return call


def _blocking_as(
    convert: Callable[[SyncMq9Client, T], R],
    method: Callable[Concatenate[Mq9Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncMq9Client, P], R]:
    """Return a method in a blocking form. The methods of its messages also block."""

    @_wraps(method)
    def call(self: SyncMq9Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return convert(self, self.run(lambda client: method(client, *args, **kwargs)))
        except (NoReply, RequestFailed) as error:
            if error.gathered is not None:
                error.gathered = _gathered(self, error.gathered)
            raise

    return call


def _asked(client: SyncMq9Client, message: Message) -> SyncMessage:
    return as_sync(message, client)


def _fetched(client: SyncMq9Client, fetched: FetchResult) -> FetchResult[SyncMessage]:
    return FetchResult(
        (as_sync(message, client) for message in fetched),
        batch=fetched.batch,
        lease_until=fetched.lease_until,
        more=fetched.more,
        waiting=fetched.waiting,
        held=fetched.held,
        held_more=fetched.held_more,
    )


def _read(client: SyncMq9Client, read: ConversationMessages) -> ConversationMessages[SyncMessage]:
    return ConversationMessages(
        messages=tuple(
            ConversationMessage(
                message=as_sync(one.message, client),
                standing=one.standing,
                in_reply_to=one.in_reply_to,
                due=one.due,
            )
            for one in read.messages
        ),
        more=read.more,
        building=read.building,
        position=read.position,
        unchanged=read.unchanged,
    )


def _gathered(client: SyncMq9Client, gathered: Gathered) -> Gathered[SyncMessage]:
    return Gathered(
        (None if one is None else as_sync(one, client) for one in gathered),
        correlation_ids=gathered.correlation_ids,
        refused=gathered.refused,
    )


def _blocking_consumer(
    method: Callable[Concatenate[Consumer, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncConsumer, P], T]:
    """Return a method of a consumer in a blocking form."""

    @_wraps(method)
    def call(self: SyncConsumer, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(lambda consumer: method(consumer, *args, **kwargs))

    return call


def _on_loop(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a plain function as a coroutine function, for the event loop to call."""

    @_wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(*args, **kwargs)

    return call


class SyncMq9Client:
    """Client of one mq9 broker for code without an event loop.

    It runs an ``Mq9Client`` on a background thread. Arguments, results and errors are the same.
    Each method blocks until it is done, and so do the methods of the messages. Use it as a context
    manager, or call ``connect`` and ``close``. You may call all methods from several threads, and
    from a thread with a running event loop. A method blocks that loop in the meantime.

    A handler that is a plain function gets a ``SyncMessage``, and may call these methods. A handler
    that is a coroutine function gets a ``Message``. It runs on the background thread, where these
    methods raise ``RuntimeError``. In a handler, call ``request_stop`` of its consumer. A handler
    that calls ``stop``, or closes the client, waits for itself until ``stop_timeout``.

    A child process that was forked while the client was connected connects again with its first
    call. It has none of the parent's consumers.
    """

    @_with_parameters_of(Mq9Client.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._make_client: Callable[[], Mq9Client] = lambda: Mq9Client(*args, **kwargs)
        self._client = self._make_client()
        self._given_transport = kwargs.get("transport") is not None
        self._portal = Portal("mq9-client")
        self._is_open = False
        self._process = os.getpid()

    def __repr__(self) -> str:
        return repr(self._client).replace("Mq9Client", "SyncMq9Client", 1)

    @classmethod
    def connect(
        cls,
        server: str | None = None,
        *,
        agent: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Create a client and connect it.

        Example:
            ```python
            client = SyncMq9Client.connect("memory://shop")
            ```
        """
        return cls(server, agent=agent, **options).open()

    def open(self) -> Self:
        """Connect this client. ``with`` does the same. A connected client stays connected."""
        self._begin_after_fork()
        try:
            self._call(self._open())
        except BaseException:
            if not self._is_open:
                self.close()  # ends the thread
            raise
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def _open(self) -> None:
        await self._client.open()
        self._is_open = True

    def close(self) -> None:
        """Stop this client's consumers, close its connection and end its thread.

        You may call this again. You may connect the client again afterwards.
        """
        self._begin_after_fork()
        portal, self._portal = self._portal, Portal("mq9-client")
        was_open, self._is_open = self._is_open, False
        try:
            if was_open:
                portal.call(self._client.close())
        except Stopped:
            pass  # another thread has closed it
        finally:
            portal.stop()

    def abort(self) -> None:
        """Stop at once, as if the process had been killed. Call ``close`` to end the thread."""
        self._begin_after_fork()
        was_open, self._is_open = self._is_open, False
        if was_open:
            self._call(_on_loop(self._client.abort)())

    @property
    def is_connected(self) -> bool:
        """Whether requests are possible: the client was connected, and not closed since."""
        return self._is_open

    @property
    def consumer(self) -> str:
        """The consumer of requests that name no other."""
        self._begin_after_fork()
        return self._client.consumer

    @property
    def clock(self) -> Clock:
        """The clock of this client and its consumers."""
        return self._client.clock

    def new_id(self) -> str:
        """Return a unique, unguessable id of 24 hexadecimal digits."""
        return self._client.new_id()

    @_with_parameters_of(Mq9Client.new_address)
    def new_address(self, *args: Any, **kwargs: Any) -> str:
        """Return an unguessable mail_address, for a mailbox that you create later."""
        return self._client.new_address(*args, **kwargs)

    @_with_parameters_of(Mq9Client.watch_unread)
    def watch_unread(self, *args: Any, **kwargs: Any) -> AbstractContextManager[UnreadWatch]:
        """Count the messages that wait for a group; see ``Mq9Client.watch_unread``."""
        return self._client.watch_unread(*args, **kwargs)

    mailbox_create = _blocking(Mq9Client.mailbox_create)
    mailbox_drop = _blocking(Mq9Client.mailbox_drop)
    mailbox_status = _blocking(Mq9Client.mailbox_status)
    mailbox_grant = _blocking(Mq9Client.mailbox_grant)
    mailbox_list_own = _blocking(Mq9Client.mailbox_list_own)
    mailbox_list = _blocking(Mq9Client.mailbox_list)
    send = _blocking(Mq9Client.send)
    fetch = _blocking_as(_fetched, Mq9Client.fetch)
    query = _blocking_as(_fetched, Mq9Client.query)
    send_detailed = _blocking(Mq9Client.send_detailed)
    sent = _blocking(Mq9Client.sent)
    conversations = _blocking(Mq9Client.conversations)
    conversation = _blocking_as(_read, Mq9Client.conversation)
    links = _blocking(Mq9Client.links)
    stuck = _blocking(Mq9Client.stuck)
    cancel = _blocking(Mq9Client.cancel)
    notice = _blocking(Mq9Client.notice)
    delete = _blocking(Mq9Client.delete)
    whoami = _blocking(Mq9Client.whoami)
    identity = _blocking(Mq9Client.identity)
    agent_register = _blocking(Mq9Client.agent_register)
    agent_unregister = _blocking(Mq9Client.agent_unregister)
    agent_report = _blocking(Mq9Client.agent_report)
    agent_discover = _blocking(Mq9Client.agent_discover)
    agent_lookup = _blocking(Mq9Client.agent_lookup)
    request = _blocking_as(_asked, Mq9Client.request)
    gather = _blocking_as(_gathered, Mq9Client.gather)
    reply = _blocking(Mq9Client.reply)
    ack = _blocking(Mq9Client.ack)
    nack = _blocking(Mq9Client.nack)
    move = _blocking(Mq9Client.move)
    extend = _blocking(Mq9Client.extend)

    @takes(SyncConsumerOptions)
    def consume(
        self, mail_address: str, handler: SyncHandler, **options: Unpack[SyncConsumerOptions]
    ) -> SyncConsumer:
        """Handle the messages of a mailbox in the background; see ``Mq9Client.consume``."""
        given: dict[str, Any] = {**options}
        for name in given.keys() & {"error_handler", "before_dead_letter"}:
            given[name] = self._given_sync_messages(given[name])
        started = self.run(
            lambda client: client.consume(mail_address, self._given_sync_messages(handler), **given)
        )
        return SyncConsumer(self, started)

    def _given_sync_messages(self, function: Any) -> Any:
        """Wrap a plain function so that it gets a ``SyncMessage`` as its first argument.

        A coroutine function must not block, so it gets the ``Message`` itself.
        """
        if not callable(function) or is_coroutine_function(function):
            return function

        def call(message: Message, *arguments: object) -> object:
            return function(handled_by(self, message), *arguments)

        return call

    def run(self, work: Callable[[Mq9Client], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function with the ``Mq9Client`` on the background thread.

        Args:
            work: Function that takes the ``Mq9Client`` and returns a coroutine.

        Returns:
            The result of the coroutine.

        Raises:
            NotConnected: The client is not connected, or was closed during the call.
        """
        self._begin_after_fork()
        if not self._is_open:
            raise NotConnected("the client is not connected; use `with` or `open()`")
        return self._call(self._run(work))

    async def _run(self, work: Callable[[Mq9Client], Coroutine[Any, Any, T]]) -> T:
        if not self._client.is_connected:  # in a forked child
            await self._client.open()
        return await work(self._client)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._portal.call(work)
        except Stopped:
            raise NotConnected("the client was closed meanwhile") from None

    def _begin_after_fork(self) -> None:
        """In a forked child, keep the parent's client untouched and create a new one."""
        if self._process != os.getpid():
            if self._given_transport:
                raise NotConnected("a transport that was given does not survive a fork")
            self._process = os.getpid()
            self._client = self._make_client()


class _Handled:
    """The client of a message in a plain handler. Its calls reach the consumer."""

    def __init__(self, client: SyncMq9Client, message: Message) -> None:
        self._client = client
        self._message = message

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Coroutine[Any, Any, Any]] = getattr(self._message, name)
        return lambda _message, *args, **kwargs: self._client.run(lambda _: method(*args, **kwargs))


def handled_by(client: SyncMq9Client, message: Message) -> SyncMessage:
    """Return a consumer's message with methods that block and inform the consumer."""
    return as_sync(message, cast("SyncMq9Client", _Handled(client, message)))


class SyncConsumer:
    """A consumer that ``SyncMq9Client.consume`` started. Its methods block until they are done.

    Args:
        client: The client that started it.
        consumer: The consumer that runs on the client's background thread.
    """

    def __init__(self, client: SyncMq9Client, consumer: Consumer) -> None:
        self._client = client
        self._consumer = consumer
        self._process = os.getpid()

    def __repr__(self) -> str:
        return repr(self._consumer).replace("Consumer", "SyncConsumer", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._client.is_connected:
            self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it fetches, or still finishes fetched messages."""
        return self._process == os.getpid() and self._consumer.is_running

    @property
    def name(self) -> str:
        """Its name among the consumers of its group."""
        return self._consumer.name

    @property
    def group_name(self) -> str:
        """The consumer group of this consumer."""
        return self._consumer.group_name

    @property
    def counters(self) -> ConsumerCounters:
        """A snapshot of the counters."""
        return self._consumer.counters

    @property
    def processed_count(self) -> int:
        """Number of messages that were handled without an error."""
        return self._consumer.processed_count

    @property
    def failed_count(self) -> int:
        """Number of calls in which the handler raised, or took too long."""
        return self._consumer.failed_count

    request_stop = _blocking_consumer(_on_loop(Consumer.request_stop))
    abort = _blocking_consumer(_on_loop(Consumer.abort))
    stop = _blocking_consumer(Consumer.stop)
    wait = _blocking_consumer(Consumer.wait)

    def run(self, work: Callable[[Consumer], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function with the ``Consumer`` on the background thread.

        Args:
            work: Function that takes the ``Consumer`` and returns a coroutine.

        Returns:
            The result of the coroutine.

        Raises:
            NotConnected: The client was closed, or this is a forked child, which has no consumers.
        """
        if self._process != os.getpid():
            raise NotConnected("the consumer runs in the process that was forked, not in the child")
        return self._client.run(lambda _client: work(self._consumer))
