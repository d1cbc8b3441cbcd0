"""Messages, their actions, and the results of FETCH, EXTEND and questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import orjson

from mq9.errors import Mq9Error, NotConnected

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # its type variables have defaults
else:
    from typing import TypeVar

Payload: TypeAlias = bytes | bytearray | memoryview | str | Mapping[str, Any] | Sequence[Any]


class Priority(StrEnum):
    """The priority of a message: critical before urgent before normal."""

    CRITICAL = "critical"
    URGENT = "urgent"
    NORMAL = "normal"


# The header that names the conversation of a message. PART_OF puts a message into an existing
# conversation, and overrides it.
CONVERSATION = "conversation"
PART_OF = "part-of-conversation"
QUESTION_TAG = "question"  # the tag of each question to a person
PRIORITIES = tuple(Priority)  # in the order of delivery


class Deliver(StrEnum):
    """The start of a new consumer group, or of a read without a group.

    ``earliest``: all stored messages. ``latest``: from the newest stored message on. ``new``: only
    messages that arrive later. ``from_time``: messages that became visible at an instant, in Unix
    seconds, or later. ``from_id``: from a msg_id on.
    """

    EARLIEST = "earliest"
    LATEST = "latest"
    NEW = "new"
    FROM_TIME = "from_time"
    FROM_ID = "from_id"


class MessageHeaders(Mapping[str, str]):
    """The headers of a message: immutable, with names in lower case. Lookups ignore case.

    Args:
        values: Value by name.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._values = {name.lower(): value for name, value in dict(values).items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"MessageHeaders({self._values!r})"


NO_HEADERS = MessageHeaders()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The former place of a message that was moved.

    Attributes:
        mailbox: Its former mailbox.
        group: The consumer group that acked it there.
        msg_id: Its number there.
        by: The agent that moved it: a claim, unless ``by_verified``.
        by_verified: Whether the broker itself knows the agent that moved it.
        reason: The reason, in that agent's words.
        deliveries: How often it had been delivered to the group.
        at: When it was moved, in Unix seconds.
        back: Whether this move returned it to an earlier mailbox.
    """

    mailbox: str
    group: str
    msg_id: int
    by: str | None = None
    by_verified: bool = False
    reason: str | None = None
    deliveries: int = 0
    at: float = 0.0
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The deadline that the holder of a message promises for its answer.

    Attributes:
        until: The deadline, in whole Unix seconds.
        done: The work done so far, in the holder's words, up to 1 024 characters.
        by: The consumer that promised it, filled in by the broker.
    """

    until: int
    done: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of a message in a consumer group.

    Attributes:
        group_name: The group.
        state: ``pending`` (it can be delivered now), ``leased``, ``given_back`` (it is not
            delivered until the delay is over), ``acked``, ``moved`` (to another mailbox, as a dead
            letter), or ``skipped`` (it lies before the group's start). If the message is no longer
            stored: ``acked``, ``moved``, or ``delivered`` without an ack.
        consumer: The holder of the lease.
        until: When the lease or the delay ends, in Unix seconds.
        deliveries: How often it was delivered to the group. 0 after it was acked.
        ahead: Number of messages to be delivered before a pending one. Only STATUS counts them.
            In results of QUERY it is 0.
        moved_to: The mailbox that it was moved to.
        moved_as: The msg_id of its copy there.
        moved: The move with its agent, time and reason. None if it is no longer stored, and in
            results of QUERY.
        reason: Why it was given back the last time, in the words of its holder.
        promise: The promise of its holder. It stays when the lease ends, until the message is
            acked, moved or given back.
    """

    group_name: str
    state: str
    consumer: str | None = None
    until: float | None = None
    deliveries: int = 0
    ahead: int = 0
    moved_to: str | None = None
    moved_as: int | None = None
    moved: Moved | None = None
    reason: str | None = None
    promise: Promise | None = None


class _ClientSlot:
    """A slot for the client of a message. It is no field, so it is not compared or pickled."""

    __slots__ = ("_client",)


# Without slots, so that `of` fills all fields by one call.
@dataclass(frozen=True, kw_only=True)
class StoredMessage(_ClientSlot):
    """A message of FETCH or QUERY. ``Message`` and ``SyncMessage`` add actions.

    Attributes:
        msg_id: Its number in its mailbox. Messages that become visible later have higher numbers.
        payload: The body, byte for byte as it was sent.
        priority: Its priority.
        create_time: When it became visible, in whole Unix seconds.
        key: Its key. At most one visible message has it.
        tags: Its tags.
        sender: Its sender: a claim, unless ``sender_verified``.
        sender_verified: Whether the broker itself knows the sender.
        from_mailbox: A mailbox that the sender may take messages from. The broker has checked that
            if ``sender_verified``. Otherwise it is a claim.
        reply_to: The address for the answer.
        correlation_id: The id of a question, which its answer repeats.
        path: The agents that this conversation has passed through, in order.
        headers: Its other headers, such as ``traceparent``.
        moved: Its former place, if it was moved here. None for one that was sent here.
        answer_by: The deadline for the answer, in whole Unix seconds.
        overdue: Whether it is the broker's notice of a question without an answer. Clients cannot
            send such a notice.
        standing: Its state in the group that a query named. None without one.
        delivery_count: How often it was delivered to this group. 0 outside groups.
        deaths: Number of leases of this group that ended after the handling had begun. Each one
            suggests that a worker died while it handled the message.
        batch: The token of its FETCH reply. None outside groups.
        mail_address: The mailbox it is stored in.
        group_name: The consumer group that fetched it. None outside groups.
        consumer: The consumer that fetched it. None outside groups.
    """

    msg_id: int
    payload: bytes
    priority: Priority = Priority.NORMAL
    create_time: int
    key: str | None = None
    tags: tuple[str, ...] = ()
    sender: str | None = None
    sender_verified: bool = False
    from_mailbox: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    path: tuple[str, ...] = ()
    headers: MessageHeaders = NO_HEADERS
    moved: Moved | None = None
    answer_by: int | None = None
    overdue: bool = False
    standing: Standing | None = None
    delivery_count: int = 0
    deaths: int = 0
    batch: str | None = None
    mail_address: str = ""
    group_name: str | None = None
    consumer: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Create a message from all its fields, without checks.

        Args:
            fields: The value of each field, by its name.
        """
        message = cls.__new__(cls)
        message.__dict__.update(fields)
        return message

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields. A copy has no client."""
        return self.__dict__

    @property
    def conversation(self) -> str | None:
        """The name of its conversation. None if the message is a conversation by itself."""
        named = self.headers.get(PART_OF) or self.headers.get(CONVERSATION)
        return named or self.correlation_id

    @property
    def text(self) -> str:
        """The payload as UTF-8 text. Raises UnicodeDecodeError if it is not UTF-8."""
        return self.payload.decode("utf-8")

    def json(self) -> Any:
        """Return the payload parsed as JSON. Raises ValueError if it is not JSON."""
        return orjson.loads(self.payload)

    def __str__(self) -> str:
        try:
            body = self.text if self.text.isprintable() else repr(self.text)
        except UnicodeDecodeError:
            body = repr(self.payload)
        sender = f" from {self.sender}" if self.sender is not None else ""
        return f"message {self.msg_id} of {self.mail_address}, {self.priority}{sender}: {body}"

    def __copy__(self) -> Self:
        return self  # it is immutable

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class MessageClient(Protocol):
    """The methods of a client that its messages use; see ``Mq9Client``."""

    async def ack(self, message: StoredMessage, /, *, individual: bool) -> list[int]:
        """Confirm a message."""

    async def nack(self, message: StoredMessage, /, *, delay: float, reason: str | None) -> None:
        """Give a message back. ``delay`` is in seconds."""

    async def extend(
        self, message: StoredMessage, /, *, lease: float, promise: Promise | None
    ) -> Extended:
        """Renew the lease of a message. ``lease`` is in seconds."""

    async def move(self, message: StoredMessage, /, *, to: str, reason: str | None) -> int | None:
        """Move a message to another mailbox."""

    async def reply(
        self,
        message: StoredMessage,
        payload: Payload,
        /,
        *,
        id: str | None,  # noqa: A002  # the protocol's word
        sender: str | None,
        from_mailbox: str | None,
        headers: Mapping[str, str] | None,
        path: Sequence[str] | None,
    ) -> int | None:
        """Answer a message."""


@dataclass(frozen=True, kw_only=True)
class Message(StoredMessage):
    """A message that a client fetched or found.

    It remembers its client, so you can call its methods. A copy made by ``pickle`` or
    ``dataclasses.replace`` has no client. Pass such a copy to a method of a client, for example
    ``client.ack(message)``. Each method raises the errors of that method of ``Mq9Client``, and
    ``NotConnected`` if the message has no client.
    """

    async def ack(self, *, individual: bool = True) -> list[int]:
        """Confirm this message, or also every earlier message of its fetch.

        RobustMQ has no leases. It confirms every message of the mailbox with a smaller id.

        Args:
            individual: Whether to confirm only this message. Default: True.

        Returns:
            The ids that this call confirmed. A repeated call returns the same ids.

        Raises:
            InvalidRequest: No group fetched it.
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            await message.ack()
            ```
        """
        return await self._its_client().ack(self, individual=individual)

    async def nack(self, *, delay: float = 0.0, reason: str | None = None) -> None:
        """Give this message back before its lease ends. The group then delivers it again.

        Args:
            delay: Seconds until the next delivery, 0 to 86 400. Default: 0.
            reason: The reason, up to 1 024 characters. Default: none.

        Raises:
            InvalidRequest: No group fetched it.
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            await message.nack(delay=60, reason="It is raining.")
            ```
        """
        await self._its_client().nack(self, delay=delay, reason=reason)

    async def extend(self, *, lease: float = 60.0, promise: Promise | None = None) -> Extended:
        """Set a new end for the lease of this message, if this consumer still holds it.

        Args:
            lease: Seconds from now until the lease ends, 1 to 86 400. Default: 60.
            promise: The deadline for the answer, and the progress so far. Default: unchanged.

        Returns:
            The result: the id is in ``extended`` after success, otherwise in ``lost``.

        Raises:
            InvalidRequest: No group fetched it.
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            await message.extend(lease=300)
            ```
        """
        return await self._its_client().extend(self, lease=lease, promise=promise)

    async def promise(
        self, until: float, done: str | None = None, *, lease: float = 60.0
    ) -> Extended:
        """Promise an answer by a deadline, and renew the lease if this consumer still holds it.

        Clients that may look at the mailbox see the promise. If it is later than ``answer_by``, the
        sender gets the notice of an overdue answer at that later time.

        Args:
            until: The deadline, in Unix seconds. It is rounded up to whole seconds.
            done: The work done so far, up to 1 024 characters. Default: none.
            lease: Seconds from now until the lease ends, 1 to 86 400. Default: 60.

        Raises:
            InvalidRequest: No group fetched it.
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            await message.promise(message.create_time + 3600, "Half of the roses")
            ```
        """
        return await self.extend(lease=lease, promise=Promise(until=ceil(until), done=done))

    async def move(self, to: str, *, reason: str | None = None) -> int | None:
        """Move this message to another mailbox: store it there and ack it here, atomically.

        Args:
            to: The target mailbox.
            reason: The reason, up to 1 024 characters. Default: none.

        Returns:
            The msg_id in the target mailbox. None if the message was acked or has expired, or
            another consumer holds it by now.

        Raises:
            InvalidRequest: No group fetched it.
            MailboxNotFound: One of the mailboxes does not exist.
            MailboxFull: The target mailbox is at its limit.

        Example:
            ```python
            await message.move("florist", reason="A question about roses")
            ```
        """
        return await self._its_client().move(self, to=to, reason=reason)

    async def reply(
        self,
        payload: Payload,
        *,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        from_mailbox: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: Sequence[str] | None = None,
    ) -> int | None:
        """Answer this message: send to its ``reply_to``, with its ``correlation_id``.

        Args:
            payload: The answer. Bytes are sent unchanged, text as UTF-8, any other value as JSON.
            id: The idempotency id. Required for each further, different answer to one message.
            sender: The name of the sender.
            from_mailbox: The mailbox that the answer comes from; see ``Mq9Client.reply``.
            headers: The answer's headers.
            path: The agents that the conversation has passed through.

        Returns:
            The msg_id of the answer. None if the group gave another answer in an earlier delivery.

        Raises:
            InvalidRequest: It has no ``reply_to``.
            ReplyMailboxNotFound: The sender no longer waits for an answer.
            ReplyForbidden: The agent may not send to the mailbox in ``reply_to``.
            IdConflict: It was answered with another body; see ``Mq9Client.reply``.

        Example:
            ```python
            await message.reply("Done.")
            ```
        """
        return await self._its_client().reply(
            self,
            payload,
            id=id,
            sender=sender,
            from_mailbox=from_mailbox,
            headers=headers,
            path=path,
        )

    def _its_client(self) -> MessageClient:
        client: MessageClient | None = getattr(self, "_client", None)
        if client is None:
            raise NotConnected(
                f"message {self.msg_id} of {self.mail_address} remembers no client; "
                "pass it to a method of one, such as client.ack(message)"
            )
        return client


def bind(message: Message, client: MessageClient) -> None:
    """Set the client of a message."""
    object.__setattr__(message, "_client", client)


if TYPE_CHECKING:
    M = TypeVar("M", bound=StoredMessage, default=Message)
else:
    M = TypeVar("M", bound=StoredMessage)


@dataclass(frozen=True, slots=True)
class Leased:
    """Messages that one consumer holds, or that a consumer gave back with a delay.

    Attributes:
        consumer: The holder. None for messages that were given back with a delay.
        count: Number of messages.
        until: When the first of those leases ends, in Unix seconds.
    """

    consumer: str | None
    count: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message that a consumer of a group holds.

    Attributes:
        msg_id: The message.
        priority: Its priority.
        consumer: The holder.
        until: When the lease ends, in Unix seconds.
        deliveries: How often the message was delivered to the group.
    """

    msg_id: int
    priority: Priority
    consumer: str
    until: float
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The reason why a FETCH returned no messages.

    Attributes:
        stored: Number of visible messages in the mailbox.
        delayed: Number of messages that wait for their due time.
        next_due: When the next of those is due, in Unix seconds.
        leased: The leased messages by consumer. Empty for a read without a group.
        acked: Number of stored messages that this group has acked.
        moved: Number of stored messages that this group has moved to another mailbox.
        skipped: Number of stored messages before the start of the group (or of the read).
    """

    stored: int
    delayed: int
    next_due: float | None = None
    leased: tuple[Leased, ...] = ()
    acked: int = 0
    skipped: int = 0
    moved: int = 0


class FetchResult(list[M]):
    """The messages of one FETCH, most urgent first, with the other values of the reply.

    Each message knows its mailbox, group, consumer and batch. So you can ack a slice, a
    comprehension or ``list(result)`` like the result.

    Attributes:
        batch: The token for acking them together. None without a group or messages.
        lease_until: When their leases end, in Unix seconds. None without a group or messages.
        more: Whether the reply was cut, so that another FETCH would return more at once.
        waiting: Why there are no messages, if there are none.
        held: Other messages that the group's consumers hold, soonest to end first, at most 100.
            None if it was not requested, or the broker does not report it.
        held_more: Whether they hold more than ``held`` has.
    """

    def __init__(
        self,
        messages: Iterable[M] = (),
        *,
        batch: str | None = None,
        lease_until: float | None = None,
        more: bool = False,
        waiting: Waiting | None = None,
        held: tuple[Held, ...] | None = None,
        held_more: bool = False,
    ) -> None:
        super().__init__(messages)
        self.batch = batch
        self.lease_until = lease_until
        self.more = more
        self.waiting = waiting
        self.held = held
        self.held_more = held_more

    def __repr__(self) -> str:
        fields = [f"waiting={self.waiting!r}"] if self.waiting is not None else []
        fields += ["more=True"] if self.more else []
        return f"FetchResult({', '.join([super().__repr__(), *fields])})"


@dataclass(frozen=True, slots=True)
class Extended:
    """The leases that EXTEND renewed.

    Attributes:
        extended: The ids whose lease was renewed.
        lost: The ids that this consumer no longer holds.
    """

    extended: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


class Gathered(list[M | None]):
    """The answers to several questions, in the order of the questions. None if one is missing.

    Attributes:
        correlation_ids: The correlation id of each question.
        refused: By index, the error of a question that could not be sent, or a ``RequestFailed`` if
            the agent gave it up. Such an answer is also missing.
    """

    def __init__(
        self,
        answers: Iterable[M | None] = (),
        *,
        correlation_ids: Iterable[str] = (),
        refused: Mapping[int, Mq9Error] | None = None,
    ) -> None:
        super().__init__(answers)
        self.correlation_ids = tuple(correlation_ids)
        self.refused = dict(refused or {})

    @property
    def answers(self) -> list[M]:
        """The answers that arrived, in the order of their questions."""
        return [one for one in self if one is not None]

    @property
    def missing(self) -> list[int]:
        """The indexes of the questions without an answer."""
        return [place for place, one in enumerate(self) if one is None]

    def __repr__(self) -> str:
        fields = [f"refused={self.refused!r}"] if self.refused else []
        return f"Gathered({', '.join([super().__repr__(), *fields])})"
