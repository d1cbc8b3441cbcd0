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
    """Creates mailboxes, sends to them and receives from them: six operations, each blocking.

    It drives a ``SyncMq9Client``, and everything that is stored by one can be read by the other. It
    is connected when it is made, may be used from several threads at once, and is a context
    manager that closes it.

    A ``mail_id`` is a mail_address. A priority is ``high``, ``normal`` or ``low``, or one of the
    protocol's. ``high`` is stored as ``critical``, ``low`` as ``normal`` with the header
    ``priority: low``, by which ``fetch``, and ``receive`` without a group, put it after the others.

    Args:
        url: The broker, as for ``Mq9Client``.
        agent: For an in-process broker, the agent that this counts as authenticated for.
        options: Further arguments of ``Mq9Client``.

    Every method raises ``InvalidRequest`` for an argument that is not allowed, and otherwise the
    error that the method of ``Mq9Client`` raises which does the same.
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
        """Stop what receives, as its ``stop`` does, and let go of the broker; may be repeated.

        A callback of a group that calls this waits for itself, for 30 s, and its message goes to
        another member; it should stop its receiver.
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

        A public one with a name may be there already: then its TTL begins anew, the rest of it
        stays as it is, and the answer is the same.

        Args:
            ttl: Seconds until the mailbox expires with all that is in it; 0 means never.
            public: Whether ``list`` names it.
            name: The mail_id to have; without it, one that nobody can guess is generated.
            desc: What it is for, up to 1 024 characters.
            prefix: What a generated mail_id starts with, before a dot.

        Returns:
            ``{"mail_id": …}``.

        Raises:
            MailboxExists: A mailbox has that name, and ``public`` is not set.
            LimitReached: The broker holds as many mailboxes as it may.
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
        """Send a message; when this returns, the broker has stored it.

        Args:
            mail_id: The mailbox it goes to.
            payload: Bytes as they are, text as UTF-8, anything else as JSON; up to 1 MiB.
            priority: ``high``, ``normal`` or ``low``; also ``critical`` and ``urgent``.
            key: At most one visible message has it: this one replaces an older one.
            delay: Seconds until it becomes visible.
            ttl: Seconds from now until it expires; more than ``delay``.
            tags: Up to 64 words to find it by, without commas.
            id: The same id again, from the same sender to the same mailbox, is stored once.
            sender: Who sends it. A claim, unless the connection has authenticated.
            from_mailbox: A mailbox that the sender may take messages from; see ``Mq9Client.send``.
            reply_to: The mailbox that the answer goes to; ``message.reply(…)`` sends it.
            correlation_id: Which question it answers, or is.
            path: The agents that this conversation has passed through.
            answer_by: Until when an answer is wanted, in Unix seconds.
            tell_overdue: Whether ``reply_to`` is told when none has come by then.
            headers: Further headers; see ``Mq9Client.send``.

        Returns:
            The msg_id, or -1 while the message is delayed.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MailboxFull: It is at its limit.
            PayloadTooLarge: The payload is larger than the broker takes.
            IdConflict: The id was used before with another body.
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
        """Receive everything unexpired that is stored, and then what arrives, until it is stopped.

        Returns at once; a thread calls back, and keeps the program alive until the receiver is
        stopped, this is closed or Ctrl-C is pressed. Several may receive at the same time.

        Without ``resume`` this only reads: everybody gets everything, nothing is remembered, and
        the next ``receive`` begins with all that is stored. It reads in rounds. The first has all
        that is stored now, most urgent first and by msg_id among equals, however much it is; each
        further one has what arrived during the one before, in the same order. A callback that
        raises is logged, and the next message follows.

        With ``resume`` this is a member of a consumer group of that name: its members compete, and
        each message goes to one of them. It is confirmed when the callback has returned. When the
        callback raised, it is delivered again, to any member, after a second, two, four and so on
        up to five minutes; when the program died, 15 seconds later. With ``dead_letter`` it moves
        there after ``max_deliveries``, and without it is delivered until it expires or is deleted.
        A callback may raise ``Reject`` or ``Retry``, or decide by the message's methods. Members
        take one message at a time, the most urgent; low ones come as normal ones do.

        Args:
            mail_id: The mailbox.
            callback: Gets each ``SyncMessage``, one at a time. What it returns is ignored. Without
                it, and without ``resume``, iterate over what this returns.
            resume: The consumer group.
            dead_letter: With ``resume``, the mailbox for what keeps failing.
            max_deliveries: With ``dead_letter``, how often a message is delivered, 1 to 1 000 000;
                20 by default.

        Returns:
            The receiver. When the mailbox expires or is removed it ends, which is logged, and its
            ``join`` raises ``MailboxNotFound``.

        Raises:
            MailboxNotFound: The mailbox is not there.
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
        """Return stored messages, most urgent first; nothing is leased, and nothing waited for.

        Args:
            mail_id: The mailbox.
            num: Highest number to return, 1 to 1 000.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        client, most = self._connected(), _num("num", num)
        return in_order(client.fetch(mail_id, num_msgs=most, max_wait_ms=0))

    def delete(self, mail_id: str, msg_id: int) -> None:
        """Remove one message.

        Args:
            mail_id: The mailbox.
            msg_id: The number of the message.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message is not there.
        """
        self._connected().delete(mail_id, msg_id)

    def list(self) -> Mailboxes:
        """Return the public mailboxes by mail_id: ``{"mail_id": …, "desc": …}`` of each."""
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
    """Return headers with those of a priority, which must not be given otherwise."""
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
