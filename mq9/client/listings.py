"""The methods of a client that list conversations, who writes to whom, and what is stuck."""

from __future__ import annotations

from mq9 import address as addresses
from mq9.client.base import ClientBase
from mq9.models import ConversationMessages, ConversationPage, Link, StuckPage
from mq9.protocol import listing_replies, requests


class ListingMethods(ClientBase):
    """See what goes on in all mailboxes, as far as this client may.

    An agent that has authenticated sees the mail of the mailboxes that it may look at, and what it
    has sent. A client in the broker's process, an operator and a reader see all. Our broker has
    these verbs; others do not.

    The broker makes an index of the messages when it is asked for the first time. Until that is
    complete, an answer has ``building`` and shows what is in the index so far. Each request goes on
    with it, for half a second at most.
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

        The messages of one header ``conversation`` are one conversation, else those of one
        correlation id. A message with neither is one by itself.

        Args:
            agent: Only conversations with messages from this sender.
            mail_address: Only conversations with messages in this mailbox.
            state: Only conversations that stand so; see ``Conversation``.
            text: Only conversations with a message that has this text in its first 4 096 bytes, in
                capitals or not; their oldest and newest 50 messages are searched.
            before: Where the page before ended: its ``more``.
            limit: Highest number to return, 1 to 1 000.
            if_changed_from: The ``position`` of an earlier answer. If nothing has changed since,
                the answer is ``unchanged``, and costs next to nothing.

        Raises:
            Forbidden: The broker does not know who asks.
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
            id: The ``id`` of a ``Conversation``; also ``/mail_address/msg_id``, for that of a
                message. Of one that is not there it has no messages.
            after: The address at which the part before ended: its ``more``.
            limit: Highest number to return, 1 to 1 000.
            max_bytes: How large the reply may be, up to 64 MiB; one message always fits.
            if_changed_from: As for ``conversations``.

        Raises:
            Forbidden: The broker does not know who asks.
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
        """Tell who writes to whom, the latest first.

        Args:
            since: Only those who have written since this instant, in Unix seconds.
            limit: Highest number to return, 1 to 1 000.

        Raises:
            Forbidden: The broker does not know who asks.
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
        """List messages that need somebody: held too long, retried, overdue, unread or dead.

        Args:
            kind: Only those of a kind; see ``StuckMessage``.
            mail_address: Only those in this mailbox.
            after: The address at which the page before ended: its ``more``.
            limit: Highest number to return, 1 to 1 000.
            leased_longer_s: From how many seconds on a message counts as held too long by one
                consumer, and a mailbox as one that nobody reads.
            if_changed_from: As for ``conversations``. Time alone makes messages stuck, too, and is
                no change.

        Raises:
            Forbidden: The broker does not know who asks.
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
