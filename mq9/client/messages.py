"""The methods of a client on the messages of a mailbox, whatever groups read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from mq9 import address as addresses
from mq9.client import arguments, tracing
from mq9.client.base import ClientBase
from mq9.client.options import SendOptions, takes
from mq9.errors import BadReply
from mq9.models import FetchResult, Notice, Occasion, Payload, SendOutcome, SentPage
from mq9.protocol import checks, replies, requests


class MessageMethods(ClientBase):
    """Send messages, look at them, and remove them."""

    @takes(SendOptions)
    async def send(
        self, mail_address: str, payload: Payload, **options: Unpack[SendOptions]
    ) -> int:
        """Send a message; when this returns, the broker has stored it.

        Args:
            mail_address: The mailbox it goes to.
            payload: Bytes as they are, text as UTF-8, anything else as JSON; up to 1 MiB.
            options: See ``SendOptions``.

        Returns:
            The msg_id, or -1 while the message is delayed.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MailboxFull: It is at its limit.
            PayloadTooLarge: The payload is larger than the broker takes.
            IdConflict: The id was used before with another body.
            InvalidRequest: The mailbox ``from_mailbox`` does not exist.
            Forbidden: The connection's agent may not take messages from ``from_mailbox``.

        Example:
            ```python
            await client.send("garden", {"water": "roses"}, priority="urgent", tags=["today"])
            ```
        """
        address = addresses.parse(mail_address)
        message = self._message("send", options)
        sent = await self._send(address, arguments.payload(payload), message)
        return sent if isinstance(sent, int) else sent.msg_id

    @takes(SendOptions)
    async def send_detailed(
        self, mail_address: str, payload: Payload, **options: Unpack[SendOptions]
    ) -> SendOutcome:
        """Send a message as ``send`` does, and tell what it replaced and how to take it back.

        A broker that does not know these details returns neither; our broker does.

        Args:
            mail_address: The mailbox it goes to.
            payload: As for ``send``.
            options: See ``SendOptions``.

        Raises:
            Mq9Error: As for ``send``.
        """
        address = addresses.parse(mail_address)
        message = self._message("send_detailed", options, details=True)
        sent = await self._send(address, arguments.payload(payload), message)
        return SendOutcome(msg_id=sent) if isinstance(sent, int) else sent

    def _message(
        self, caller: str, options: SendOptions, *, details: bool = False
    ) -> requests.Send:
        given: dict[str, Any] = {**options}
        for name in given:
            if name not in SendOptions.__annotations__:
                raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
        if given.get("path", ()) is None:
            del given["path"]
        if checks.is_absent(given.get("id")):
            given["id"] = self._request_ids.next()
        return requests.Send(details=details, **given)

    async def _send(
        self, mail_address: str, body: bytes, options: requests.Send
    ) -> int | SendOutcome:
        if not tracing.is_on():
            return await self._connection.request(options, mail_address, body)
        with tracing.sending(mail_address, options, len(body)) as message:
            sent = await self._connection.request(message.options, mail_address, body)
            message.stored_as(sent if isinstance(sent, int) else sent.msg_id)
        return sent

    async def query(
        self,
        mail_address: str,
        *,
        key: str | None = None,
        tags: Sequence[str] | None = None,
        correlation_id: str | None = None,
        since: int | None = None,
        limit: int | None = None,
        msg_id: int | None = None,
        max_bytes: int = requests.DEFAULT_MAX_BYTES,
        group_name: str | None = None,
        state: str | None = None,
        before_id: int | None = None,
    ) -> FetchResult:
        """Look at stored messages without touching any group: the newest that match, oldest first.

        Args:
            mail_address: The mailbox.
            key: Only the message with this key.
            tags: Only messages with all of these tags.
            correlation_id: Only messages with this correlation id.
            since: Only messages that became visible at this instant, in Unix seconds, or later.
            limit: Highest number to return, 1 to 1 000; 100 by default.
            msg_id: Only the message with this number.
            max_bytes: How large the reply may be, up to 64 MiB; one message always fits.
            group_name: A consumer group with which each message's ``standing`` is told, as
                ``mailbox_status`` tells it of one message.
            state: Only messages that are so for the group: ``pending``, ``leased``,
                ``given_back``, ``acked``, ``moved`` or ``skipped``.
            before_id: Only messages with a lower number, such as that of the first message of a
                result that has ``more``.

        Raises:
            MailboxNotFound: The mailbox is not there.
            BadReply: The broker does not know one of ``correlation_id``, ``group_name`` and
                ``before_id``, and answered with other messages.

        Example:
            ```python
            for message in await client.query("garden", limit=10):
                print(message.msg_id, message.text)
            ```
        """
        address = addresses.parse(mail_address)
        body = requests.Query(
            key=key,
            tags=arguments.tags(tags),
            correlation_id=correlation_id,
            since=since,
            limit=requests.DEFAULT_LIMIT if limit is None else limit,
            msg_id=msg_id,
            max_bytes=max_bytes,
            group_name=group_name,
            state=state,
            before_id=before_id,
        )
        found = replies.messages_of(await self._connection.request(body, address), address)
        _refuse_unasked(body, found)
        self._bind(found)
        return found

    async def sent(
        self,
        *,
        sender: str | None = None,
        correlation_ids: Sequence[str] | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> SentPage:
        """List messages that were sent with a correlation id, newest first, and their state.

        It lists messages that are stored or delayed, in whatever mailboxes. Our broker has this
        verb; others do not.

        Args:
            sender: Who sent them. An authenticated agent may leave it out, and sees its own only.
            correlation_ids: Only messages with one of these, 1 to 100. They must be given where the
                connection has not authenticated as an agent, unless the broker is in this process
                or the connection is an operator's.
            before: Where the page before ended: its ``more``.
            limit: Highest number to return, 1 to 1 000; 20 by default.

        Raises:
            Forbidden: It is another agent's, or ``correlation_ids`` must be given.
            InvalidRequest: ``sender`` must be given, or the broker does not have this verb.
        """
        body = requests.ListSent(
            sender=sender,
            correlation_ids=arguments.correlation_ids(correlation_ids),
            before=before,
            limit=requests.DEFAULT_SENT if limit is None else limit,
        )
        return await self._connection.request(body)

    async def cancel(
        self, mail_address: str, delayed_id: int, *, sender: str | None = None
    ) -> None:
        """Take back a delayed message that has not become visible. Our broker has this verb.

        Args:
            mail_address: The mailbox that it was sent to.
            delayed_id: The number that ``send_detailed`` returned, and ``sent`` lists.
            sender: The sender: a claim, unless the connection has authenticated. Everybody who may take
                messages from the mailbox need not be the sender.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: It is visible by now, was removed, or is another sender's.

        Example:
            ```python
            sent = await client.send_detailed("garden", "Cut the hedge.", delay=3600)
            await client.cancel("garden", sent.delayed_id)
            ```
        """
        body = requests.Cancel(delayed_id=delayed_id, sender=sender)
        await self._connection.request(body, addresses.parse(mail_address))

    async def notice(
        self,
        mail_address: str,
        *,
        host: str,
        session: str,
        occasion: Occasion | str,
        may_wake: str | Iterable[str] = checks.KNOWN,
        max_in_a_row: int = requests.DEFAULT_IN_A_ROW,
        max_per_hour: int = requests.DEFAULT_PER_HOUR,
        cooldown_s: int = requests.DEFAULT_COOLDOWN_S,
    ) -> Notice:
        """Ask what to tell a session of a host of the mail that waits, each message once.

        It leases and acks nothing. If there is nothing new, it changes nothing. Our broker has this
        verb; others do not.

        Args:
            mail_address: The mailbox, which this client may take messages from.
            host: The host, such as ``claude-code``; up to 64 characters.
            session: The session, by the host's own id; up to 128 characters. One that the broker
                does not know is told of all mail that waits.
            occasion: When the host asks. On ``stop`` and ``idle`` the notice begins an automatic
                turn, which the other arguments limit.
            may_wake: Whose messages begin automatic turns: ``everyone``; ``known``, those that the
                owner of the mailbox has written to; or the names of agents.
            max_in_a_row: Most automatic turns of the session between two prompts, 0 to
                100.
            max_per_hour: Most automatic turns of all sessions of the mailbox within an hour, 0 to
                100.
            cooldown_s: Seconds after an automatic turn in which no session wakes, up to 3 600.

        Raises:
            MailboxNotFound: The mailbox is not there.
            Forbidden: This client may not take messages from it.
        """
        body = requests.Notify(
            host=host,
            session=session,
            occasion=checks.member(Occasion)("occasion", occasion),
            may_wake=arguments.listed(may_wake),
            max_in_a_row=max_in_a_row,
            max_per_hour=max_per_hour,
            cooldown_s=cooldown_s,
        )
        return await self._connection.request(body, addresses.parse(mail_address))

    async def delete(self, mail_address: str, msg_id: int) -> None:
        """Remove one message.

        Args:
            mail_address: The mailbox.
            msg_id: The number of the message.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message is not there.

        Example:
            ```python
            [newest] = await client.query("garden", limit=1)
            await client.delete("garden", newest.msg_id)
            ```
        """
        body = requests.Delete(msg_id=msg_id)
        await self._connection.request(body, addresses.parse(mail_address))


def _refuse_unasked(asked: requests.Query, found: FetchResult) -> None:
    """Raise BadReply where messages show that the broker has ignored what was asked."""
    wanted, before = asked.correlation_id, asked.before_id
    if wanted is not None and any(one.correlation_id != wanted for one in found):
        raise BadReply("correlation_id: the broker does not know how to look for one")
    if asked.group_name is not None and any(one.standing is None for one in found):
        raise BadReply("group_name: the broker does not say how messages stand with a group")
    if before is not None and any(one.msg_id >= before for one in found):
        raise BadReply("before_id: the broker does not know how to look before a message")
