"""The six operations of the second generation, for code without an event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, TypeAlias, Unpack
from weakref import WeakSet

from mq9.client import arguments
from mq9.client.consumer.calls import is_coroutine_function
from mq9.client.consumer.options import DEFAULT_MAX_DELIVERIES
from mq9.client.options import ClientOptions
from mq9.client.ordered_reading import in_order
from mq9.client.receiver import MessageCallback, Receiver
from mq9.client.receiving import GroupMember, MessageSource, WholeMailbox
from mq9.client.sync_client import SyncMq9Client
from mq9.client.sync_messages import SyncMessage
from mq9.errors import InvalidRequest, MailboxExists, NotConnected
from mq9.models import Payload, Priority
from mq9.protocol import checks
from mq9.protocol.older_priorities import stored_as

MailboxDict: TypeAlias = dict[str, str]
Messages: TypeAlias = list[SyncMessage]  # inside the class, `list` is its method
Mailboxes: TypeAlias = list[MailboxDict]

_num = checks.whole(1, 1_000)


class Mailbox:
    """Create mailboxes, send to them and receive from them: six blocking operations.

    It uses a ``SyncMq9Client``, and both can read what the other stores. It connects when you
    create it. Several threads may use it at once. As a context manager, it closes at the end.

    A ``mail_id`` is a mail_address. A priority is ``high``, ``normal`` or ``low``, or one of the
    protocol's. ``high`` is stored as ``critical``. ``low`` is stored as ``normal`` with the header
    ``priority: low``. ``fetch``, and ``receive`` without a group, return low messages last.

    Args:
        url: The URL of the broker, as for ``Mq9Client``.
        agent: For an in-process broker, the agent that this client authenticates as.
        options: Further arguments of ``Mq9Client``.

    Every method raises ``InvalidRequest`` for an argument that is not allowed. Each can also raise
    the errors of the method of ``Mq9Client`` that does the same.
    """

    def __init__(
        self, url: str | None = None, *, agent: str | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        self._client = SyncMq9Client.connect(url, agent=agent, **options)
        self._receivers: WeakSet[Receiver] = WeakSet()

    def __repr__(self) -> str:
        return repr(self._client).replace("SyncMq9Client", "Mailbox", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all receivers with their ``stop``, and close the connection.

        You may call this again. If the callback of a group calls this, it waits for itself for
        30 s, and its message goes to another member. Stop its receiver instead.
        """
        for receiver in list(self._receivers):
            receiver.request_stop()
        for receiver in list(self._receivers):
            receiver.stop()
        self._client.close()

    def create(
        self,
        ttl: int = 0,
        *,
        public: bool = False,
        name: str | None = None,
        desc: str = "",
        prefix: str | None = None,
    ) -> MailboxDict:
        """Create a mailbox.

        If ``public`` and ``name`` are set, the mailbox may exist. Its TTL then starts again, and
        all else stays unchanged.

        Args:
            ttl: Seconds until the mailbox expires with all its messages. Default: 0, never.
            public: Whether ``list`` shows the mailbox. Default: False.
            name: The mail_id. Default: the broker generates an unguessable one.
            desc: A description, up to 1 024 characters. Default: empty.
            prefix: The first part of a generated mail_id, before a dot.

        Returns:
            ``{"mail_id": …}``.

        Raises:
            MailboxExists: A mailbox has that name, and ``public`` is not set.
            LimitReached: The broker has reached its maximum number of mailboxes.

        Example:
            ```python
            mailbox.create(name="garden", public=True, desc="Work in the garden")
            ```
        """
        renew = public is True and not checks.is_absent(name)
        try:
            address = self._connected().mailbox_create(
                name=name, ttl=ttl, desc=desc, public=public, prefix=prefix, renew=renew
            )
        except MailboxExists:  # on a broker that cannot renew
            if not renew or name is None:
                raise
            address = name
        return {"mail_id": address}

    def send(
        self,
        mail_id: str,
        payload: Payload,
        priority: Priority | str = Priority.NORMAL,
        *,
        key: str | None = None,
        delay: int | None = None,
        ttl: int | None = None,
        tags: Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        from_mailbox: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
        path: Sequence[str] | None = None,
        answer_by: float | None = None,
        tell_overdue: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Send a message. When this returns, the broker has stored it.

        Args:
            mail_id: The mailbox to send to.
            payload: The body, up to 1 MiB. Bytes are sent unchanged, text as UTF-8, any other value
                as JSON.
            priority: ``high``, ``normal`` or ``low``, or also ``critical`` or ``urgent``. Default:
                ``normal``.
            key: At most one visible message has this key. The new message replaces the older one.
            delay: Seconds until the message becomes visible. Default: visible at once.
            ttl: Lifetime in seconds, counted from the send. Must exceed ``delay``. Default: the
                message never expires.
            tags: Up to 64 tags to filter by, without commas. Default: none.
            id: The idempotency id. A mailbox stores one message for each id and sender.
            sender: The name of the sender. It is a claim, unless the connection has authenticated.
            from_mailbox: A mailbox that the sender may take messages from; see ``Mq9Client.send``.
            reply_to: The mailbox for the answer. ``message.reply(…)`` sends the answer there.
            correlation_id: The id of the question, in the question and in its answer.
            path: The agents that this conversation has passed through.
            answer_by: The deadline for an answer, in Unix seconds.
            tell_overdue: Whether the broker sends a message to ``reply_to`` if there is no answer
                by then. Default: False.
            headers: Further headers; see ``Mq9Client.send``.

        Returns:
            The msg_id. It is -1 if the message is delayed.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            MailboxFull: The mailbox is at its limit.
            PayloadTooLarge: The payload is larger than the broker accepts.
            IdConflict: The id was used before with another body.

        Example:
            ```python
            mailbox.send("garden", "Water the roses.", priority="high")
            ```
        """
        stored, added = stored_as(priority)
        return self._connected().send(
            mail_id,
            payload,
            priority=stored,
            key=key,
            delay=delay,
            ttl=ttl,
            tags=tags,
            id=id,
            sender=sender,
            from_mailbox=from_mailbox,
            reply_to=reply_to,
            correlation_id=correlation_id,
            path=path,
            answer_by=answer_by,
            tell_overdue=tell_overdue,
            headers=_with(added, headers),
        )

    def receive(
        self,
        mail_id: str,
        callback: MessageCallback | None = None,
        *,
        resume: str | None = None,
        dead_letter: str | None = None,
        max_deliveries: int = DEFAULT_MAX_DELIVERIES,
    ) -> Receiver:
        """Receive all stored messages, and then new ones, until you stop it.

        This returns at once. A thread calls the callback. The program does not exit before you stop
        the receiver, close this object or press Ctrl-C. Several receivers may run at once.

        Without ``resume``, it only reads. Every receiver gets every message, and the next
        ``receive`` starts again with all stored messages. It reads in rounds. The first round has
        all messages that are stored now. Each further round has the messages that arrived during
        the round before. Within a round, the most urgent come first, then the lowest msg_id. If the
        callback raises, the error is logged and the next message follows.

        With ``resume``, the receiver joins the consumer group of that name. Each message goes to
        one member, and is acked when the callback returns. If the callback raises, the group
        redelivers the message after a second, then two, four and so on, up to five minutes. If the
        program dies, that happens after 15 seconds. With ``dead_letter``, the message moves there
        after ``max_deliveries``. Without it, deliveries repeat until the message expires or is
        deleted. A callback may raise ``Reject`` or ``Retry``, or call the message's methods. A
        member takes one message at a time, the most urgent first. Low messages count as normal.

        Args:
            mail_id: The mailbox.
            callback: Function that takes each ``SyncMessage``, one at a time. Its return value is
                ignored. Without ``callback`` and ``resume``, iterate over the receiver.
            resume: The consumer group. Default: none.
            dead_letter: With ``resume``, the mailbox for messages that keep failing. Default: none.
            max_deliveries: With ``dead_letter``, the number of deliveries before the message moves,
                1 to 1 000 000. Default: 20.

        Returns:
            The receiver. If the mailbox expires or is removed, the receiver ends and logs that. Its
            ``join`` then raises ``MailboxNotFound``.

        Raises:
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            receiver = mailbox.receive("garden", print, resume="helpers")
            receiver.stop()
            ```
        """
        if callback is not None:
            _check_callback(callback)
        client = self._connected()
        source: MessageSource
        if checks.is_absent(resume):
            if not checks.is_absent(dead_letter):
                raise InvalidRequest(f"dead_letter: {checks.shown(dead_letter)} goes with resume")
            source = WholeMailbox(client)
        else:
            if callback is None:
                raise InvalidRequest(f"callback: needed with resume={checks.shown(resume)}")
            group_name = checks.header_text("resume", resume)
            source = GroupMember(client, group_name, max_deliveries, dead_letter)
        receiver = Receiver(client, mail_id, source)
        self._receivers.add(receiver)  # before a callback can close this
        if callback is not None:
            receiver.call_back(callback)
        return receiver

    def fetch(self, mail_id: str, num: int = 100) -> Messages:
        """Return stored messages, most urgent first, without a lease or a wait.

        Args:
            mail_id: The mailbox.
            num: Maximum number of messages to return, 1 to 1 000. Default: 100.

        Raises:
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            for message in mailbox.fetch("garden", 10):
                print(message.msg_id, message.text)
            ```
        """
        client, most = self._connected(), _num("num", num)
        return in_order(client.fetch(mail_id, num_msgs=most, max_wait_ms=0))

    def delete(self, mail_id: str, msg_id: int) -> None:
        """Delete one message.

        Args:
            mail_id: The mailbox.
            msg_id: The number of the message.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            MessageNotFound: The message does not exist.

        Example:
            ```python
            mailbox.delete("garden", 0)
            ```
        """
        self._connected().delete(mail_id, msg_id)

    def list(self) -> Mailboxes:
        """Return the public mailboxes by mail_id, each as ``{"mail_id": …, "desc": …}``.

        Example:
            ```python
            print([one["mail_id"] for one in mailbox.list()])
            ```
        """
        return [
            {"mail_id": mailbox.mail_address, "desc": mailbox.desc}
            for mailbox in self._connected().mailbox_list()
        ]

    def _connected(self) -> SyncMq9Client:
        if not self._client.is_connected:
            raise NotConnected("the Mailbox was closed")
        return self._client


def _with(
    added: tuple[tuple[str, str], ...], given: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """Return headers with the header of a priority. Refuse a contradiction."""
    if not added:
        return given
    headers = dict(arguments.headers(given))
    for name, value in added:
        if headers.setdefault(name, value) != value:
            raise InvalidRequest(
                f"headers: {name} {checks.shown(headers[name])} contradicts the priority {value}"
            )
    return headers


def _check_callback(callback: object) -> None:
    if not callable(callback):
        raise InvalidRequest(f"callback: {checks.shown(callback)} cannot be called")
    if is_coroutine_function(callback):
        raise InvalidRequest(
            f"callback: {checks.shown(callback)} is a coroutine function; those go to Mq9Client"
        )
