"""The methods of a client on the messages of a mailbox, independent of consumer groups."""

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
    """Send, look at, cancel and delete messages."""

    @takes(SendOptions)
    async def send(
        self, mail_address: str, payload: Payload, **options: Unpack[SendOptions]
    ) -> int:
        """Send a message. When this returns, the broker has stored it.

        Args:
            mail_address: The mailbox to send to.
            payload: The body, up to 1 MiB. Bytes are sent unchanged, text as UTF-8, any other value
                as JSON.
            options: See ``SendOptions``.

        Returns:
            The msg_id. It is -1 if the message is delayed.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            MailboxFull: The mailbox is at its limit.
            PayloadTooLarge: The payload is larger than the broker accepts.
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
        """Send a message as ``send`` does, and return what it replaced and how to cancel it.

        A broker without this extension returns only the msg_id.

        Args:
            mail_address: The mailbox to send to.
            payload: As for ``send``.
            options: See ``SendOptions``.

        Raises:
            Mq9Error: As for ``send``.

        Example:
            ```python
            sent = await client.send_detailed("garden", "Mow the lawn.", key="lawn")
            print(sent.msg_id, sent.replaced)
            ```
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
        """Return the newest messages that match, oldest first, without affecting any group.

        Args:
            mail_address: The mailbox.
            key: Only the message with this key.
            tags: Only messages with all of these tags.
            correlation_id: Only messages with this correlation id.
            since: Only messages that became visible at this instant or later, in Unix seconds.
            limit: Maximum number of messages to return, 1 to 1 000. Default: 100.
            msg_id: Only the message with this number.
            max_bytes: Maximum size of the reply in bytes, up to 64 MiB. Default: 4 MiB. The reply
                always has room for one message.
            group_name: A consumer group. Each message then has ``standing``, its state in this
                group, as in ``mailbox_status``.
            state: Only messages in this state in the group: ``pending``, ``leased``,
                ``given_back``, ``acked``, ``moved`` or ``skipped``.
            before_id: Only messages with a lower number. To read the page before a result that has
                ``more``, pass the number of its first message.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            BadReply: The broker ignored ``correlation_id``, ``group_name`` or ``before_id`` and
                returned other messages.

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
        """List sent messages that have a correlation id, newest first, with their state.

        The list has stored and delayed messages of all mailboxes. Only our broker has this verb.

        Args:
            sender: The sender of the messages. An authenticated agent may omit it, and sees only
                its own messages.
            correlation_ids: Only messages with one of these correlation ids, 1 to 100. Required
                unless the connection is an authenticated agent's or an operator's, or the broker
                runs in this process.
            before: The ``more`` of the previous page. Default: the first page.
            limit: Maximum number of messages to return, 1 to 1 000. Default: 20.

        Raises:
            Forbidden: The messages are another agent's, or ``correlation_ids`` is required.
            InvalidRequest: ``sender`` is required, or the broker does not have this verb.

        Example:
            ```python
            page = await client.sent(sender="florist")
            print([one.state for one in page.sent])
            ```
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
        """Cancel a delayed message that is not visible yet. Only our broker has this verb.

        Args:
            mail_address: The mailbox that the message was sent to.
            delayed_id: The number from ``send_detailed`` or ``sent``.
            sender: The name of the sender. It is a claim, unless the connection has authenticated.
                A caller that may take messages from the mailbox can cancel for any sender.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            MessageNotFound: The message is visible by now, was removed, or has another sender.

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
        """Ask which waiting mail to report to a session of a host. Each message is reported once.

        It leases and acks no messages. If no message is new, it changes nothing. Only our broker
        has this verb.

        Args:
            mail_address: The mailbox. This client must have the right to take messages from it.
            host: The host, such as ``claude-code``, up to 64 characters.
            session: The host's own id of the session, up to 128 characters. A session that is new
                to the broker gets a notice of all waiting mail.
            occasion: When the host asks. On ``stop`` and ``idle`` the notice starts an automatic
                turn. The arguments below limit these turns.
            may_wake: The senders whose messages start automatic turns: ``everyone``, ``known`` (the
                senders that the owner of the mailbox has written to), or a list of agent names.
                Default: ``known``.
            max_in_a_row: Maximum automatic turns of the session between two prompts, 0 to 100.
                Default: 3.
            max_per_hour: Maximum automatic turns of all sessions of the mailbox within an hour, 0
                to 100. Default: 12.
            cooldown_s: Seconds after an automatic turn in which no session wakes, up to 3 600.
                Default: 30.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            Forbidden: This client may not take messages from the mailbox.

        Example:
            ```python
            notice = await client.notice("garden", host="editor", session="s1", occasion="prompt")
            print(notice.told, notice.new.total)
            ```
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
        """Delete one message.

        Args:
            mail_address: The mailbox.
            msg_id: The number of the message.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            MessageNotFound: The message does not exist.

        Example:
            ```python
            [newest] = await client.query("garden", limit=1)
            await client.delete("garden", newest.msg_id)
            ```
        """
        body = requests.Delete(msg_id=msg_id)
        await self._connection.request(body, addresses.parse(mail_address))


def _refuse_unasked(asked: requests.Query, found: FetchResult) -> None:
    """Raise BadReply if messages show that the broker ignored a filter."""
    wanted, before = asked.correlation_id, asked.before_id
    if wanted is not None and any(one.correlation_id != wanted for one in found):
        raise BadReply("correlation_id: the broker does not know how to look for one")
    if asked.group_name is not None and any(one.standing is None for one in found):
        raise BadReply("group_name: the broker does not say how messages stand with a group")
    if before is not None and any(one.msg_id >= before for one in found):
        raise BadReply("before_id: the broker does not know how to look before a message")
