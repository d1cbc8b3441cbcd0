"""The methods of a client that list conversations, links between agents, and stuck messages."""

from __future__ import annotations

from mq9 import address as addresses
from mq9.client.base import ClientBase
from mq9.models import ConversationMessages, ConversationPage, Link, StuckPage
from mq9.protocol import listing_replies, requests


class ListingMethods(ClientBase):
    """Show the messages in all mailboxes that this client may look at.

    An authenticated agent sees the messages in the mailboxes that it may look at, and its own sent
    messages. A client in the broker's process, an operator and a reader see all. Only our broker
    has these verbs.

    The broker indexes the messages on the first request. Until the index is complete, a reply has
    ``building`` and shows the messages indexed so far. Each request continues the indexing for at
    most half a second.
    """

    async def conversations(
        self,
        *,
        agent: str | None = None,
        mail_address: str | None = None,
        state: str | None = None,
        text: str | None = None,
        before: str | None = None,
        limit: int = requests.DEFAULT_CONVERSATIONS,
        if_changed_from: int | None = None,
    ) -> ConversationPage:
        """List conversations, the one with the newest message first.

        A conversation is all messages with the same header ``conversation``, or otherwise with the
        same correlation id. A message with neither is a conversation of its own.

        Args:
            agent: Only conversations with messages from this sender.
            mail_address: Only conversations with messages in this mailbox.
            state: Only conversations in this state; see ``Conversation``.
            text: Only conversations with this text in the first 4 096 bytes of a message, in either
                case. The broker searches the oldest message and the newest 50.
            before: The ``more`` of the previous page. Default: the first page.
            limit: Maximum number of conversations to return, 1 to 1 000. Default: 50.
            if_changed_from: The ``position`` of an earlier reply. If nothing has changed since
                then, the reply is ``unchanged`` and has no conversations.

        Raises:
            Forbidden: The broker cannot identify this client.

        Example:
            ```python
            page = await client.conversations(state="waiting", limit=10)
            for conversation in page.conversations:
                print(conversation.id, conversation.waiting_for)
            ```
        """
        body = requests.ListConversations(
            agent=agent,
            mail_address=mail_address,
            state=state,
            text=text,
            before=before,
            limit=limit,
            if_changed_from=if_changed_from,
        )
        return await self._connection.request(body)

    async def conversation(
        self,
        id: str,  # noqa: A002  # the protocol's word
        *,
        after: str | None = None,
        limit: int = requests.DEFAULT_LIMIT,
        max_bytes: int = requests.DEFAULT_MAX_BYTES,
        if_changed_from: int | None = None,
    ) -> ConversationMessages:
        """Read the messages of a conversation, oldest first, without leasing them.

        Args:
            id: The ``id`` of a ``Conversation``, or ``/mail_address/msg_id`` for the conversation
                of a message. An unknown id has no messages.
            after: The ``more`` of the previous part, an address. Default: the first part.
            limit: Maximum number of messages to return, 1 to 1 000. Default: 100.
            max_bytes: Maximum size of the reply in bytes, up to 64 MiB. Default: 4 MiB. The reply
                always has room for one message.
            if_changed_from: As for ``conversations``.

        Raises:
            Forbidden: The broker cannot identify this client.

        Example:
            ```python
            read = await client.conversation("/garden/0")
            print([one.message.text for one in read.messages])
            ```
        """
        body = requests.ReadConversation(
            id=id, after=after, limit=limit, max_bytes=max_bytes, if_changed_from=if_changed_from
        )
        read = listing_replies.messages_of(await self._connection.request(body))
        self._bind(one.message for one in read.messages)
        return read

    async def links(
        self, *, since: int | None = None, limit: int = requests.DEFAULT_LINKS
    ) -> tuple[Link, ...]:
        """List the pairs of sender and mailbox, the latest message first.

        Args:
            since: Only senders that have written since this instant, in Unix seconds.
            limit: Maximum number of links to return, 1 to 1 000. Default: 200.

        Raises:
            Forbidden: The broker cannot identify this client.

        Example:
            ```python
            for link in await client.links():
                print(link.sender, "wrote to", link.mail_address)
            ```
        """
        return await self._connection.request(requests.ListLinks(since=since, limit=limit))

    async def stuck(
        self,
        *,
        kind: str | None = None,
        mail_address: str | None = None,
        after: str | None = None,
        limit: int = requests.DEFAULT_LIMIT,
        leased_longer_s: int = requests.DEFAULT_LEASED_LONGER_S,
        if_changed_from: int | None = None,
    ) -> StuckPage:
        """List messages that need attention: held too long, retried, overdue, unread or dead.

        Args:
            kind: Only messages of this kind; see ``StuckMessage``.
            mail_address: Only messages in this mailbox.
            after: The ``more`` of the previous page, an address. Default: the first page.
            limit: Maximum number of messages to return, 1 to 1 000. Default: 100.
            leased_longer_s: Seconds after which a message counts as held too long by one consumer,
                and a mailbox as unread. Default: 600.
            if_changed_from: As for ``conversations``. Time alone can make a message stuck. This
                does not count as a change.

        Raises:
            Forbidden: The broker cannot identify this client.

        Example:
            ```python
            page = await client.stuck(kind="overdue")
            for one in page.items:
                print(one.mail_address, one.msg_id, one.reason)
            ```
        """
        body = requests.ListStuck(
            kind=kind,
            mail_address=None if mail_address is None else addresses.parse(mail_address),
            after=after,
            limit=limit,
            leased_longer_s=leased_longer_s,
            if_changed_from=if_changed_from,
        )
        return await self._connection.request(body)
