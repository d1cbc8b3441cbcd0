"""The methods of a client on mailboxes."""

from __future__ import annotations

from collections.abc import Sequence

from mq9 import address as addresses
from mq9.client import arguments
from mq9.client.base import ClientBase
from mq9.errors import BadReply
from mq9.models import (
    Granted,
    LookPolicy,
    MailboxPage,
    MailboxStatus,
    MailboxType,
    PublicMailbox,
    SendPolicy,
)
from mq9.protocol import requests


class MailboxMethods(ClientBase):
    """Create, describe, list and remove mailboxes."""

    async def mailbox_create(
        self,
        *,
        name: str | None = None,
        ttl: int = 0,
        desc: str = "",
        public: bool = False,
        prefix: str | None = None,
        renew: bool = False,
        type: MailboxType | str = MailboxType.STANDARD,  # noqa: A002  # the protocol's word
        send_policy: SendPolicy | str = SendPolicy.EVERYONE,
        look_policy: LookPolicy | str = LookPolicy.GRANTED,
        viewers: Sequence[str] | None = None,
    ) -> str:
        """Create a mailbox and return its mail_address.

        Args:
            name: The address. Default: the broker generates an unguessable one.
            ttl: Seconds until the mailbox expires with all its messages. Default: 0, never.
            desc: A description, up to 1 024 characters. Default: empty.
            public: Whether ``mailbox_list`` lists the mailbox. Default: False.
            prefix: The first part of a generated address, before a dot.
            renew: Whether to accept an existing mailbox. Its TTL then starts again, and all else
                stays unchanged. Default: False.
            type: ``standard`` keeps all messages. ``latest`` keeps only the newest visible one, of
                any key, priority and sender. Only our broker has types. Default: ``standard``.
            send_policy: The agents that may send to the mailbox: ``everyone``, ``granted`` (its
                creator, and the senders and readers in ``mailbox_grant``) or ``creator``. The
                broker enforces policies if it authenticates agents; ``mailbox_status`` reports
                that. Default: ``everyone``.
            look_policy: The agents that may look into the mailbox without taking messages:
                ``granted`` (its creator, readers and viewers) or ``everyone``. Default:
                ``granted``.
            viewers: The agents that may look into the mailbox, at most 64. Default: none.

        Raises:
            BadReply: The broker does not know types, policies or viewers. It created the mailbox
                without them.
            MailboxExists: The mailbox exists, and ``renew`` is not set.
            LimitReached: The broker has reached its maximum number of mailboxes.

        Example:
            ```python
            await client.mailbox_create(name="orders", desc="Orders of the shop")
            ```
        """
        body = requests.CreateMailbox(
            name=name,
            ttl=ttl,
            desc=desc,
            public=public,
            prefix=prefix,
            renew=renew,
            type=arguments.member("type", type, MailboxType.STANDARD),
            send_policy=arguments.member("send_policy", send_policy, SendPolicy.EVERYONE),
            look_policy=arguments.member("look_policy", look_policy, LookPolicy.GRANTED),
            viewers=arguments.agents("viewers", viewers) or (),
        )
        created = await self._connection.request(body)
        address = created.mail_address
        if body.type is not MailboxType.STANDARD and created.type is None:
            raise BadReply(
                f"type: the broker does not know {body.type.value!r};"
                f" it made {address}, which keeps all messages"
            )
        if body.send_policy is not SendPolicy.EVERYONE and created.send_policy is None:
            raise BadReply(
                f"send_policy: the broker does not know {body.send_policy.value!r};"
                f" it made {address}, to which everybody may send"
            )
        if body.look_policy is not LookPolicy.GRANTED and created.look_policy is None:
            raise BadReply(
                f"look_policy: the broker does not know {body.look_policy.value!r};"
                f" it made {address}, into which others may not look"
            )
        if body.viewers and created.viewers is None:
            raise BadReply(
                f"viewers: the broker does not know them; it made {address}, which has none"
            )
        if not renew:
            self._batches.forget(address)
        return address

    async def mailbox_drop(self, mail_address: str) -> None:
        """Remove a mailbox with its messages, groups and the agent registrations that use it.

        Args:
            mail_address: The mailbox.

        Raises:
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            await client.mailbox_drop("garden")
            ```
        """
        address = addresses.parse(mail_address)
        await self._connection.request(requests.DropMailbox(), address)
        self._batches.forget(address)

    async def mailbox_status(
        self, mail_address: str, *, group_name: str | None = None, msg_id: int | None = None
    ) -> MailboxStatus:
        """Describe a mailbox without changing it.

        Args:
            mail_address: The mailbox.
            group_name: A consumer group. The result then has its state.
            msg_id: A message. The result then has its history.

        Raises:
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            status = await client.mailbox_status("garden")
            print(f"{status.stored} stored, {status.delayed} delayed")
            ```
        """
        body = requests.Status(group_name=group_name, msg_id=msg_id)
        return await self._connection.request(body, addresses.parse(mail_address))

    async def mailbox_grant(
        self,
        mail_address: str,
        readers: Sequence[str] | None = None,
        *,
        viewers: Sequence[str] | None = None,
        senders: Sequence[str] | None = None,
        send_policy: SendPolicy | str | None = None,
        look_policy: LookPolicy | str | None = None,
    ) -> Granted:
        """Set which other agents may use a mailbox, in addition to its creator.

        Grants take effect if clients authenticate as agents. Then only the creator of a mailbox and
        the agents that it grants access can read it. Every agent may send to it, unless its policy
        forbids that. Each list replaces the previous one and has at most 64 agents. A list that
        you omit stays unchanged. Only our broker has this verb.

        Args:
            mail_address: The mailbox.
            readers: Agents with all rights of its creator, except this grant.
            viewers: Agents that may look at its messages and status, and take no messages.
            senders: Agents that may send to it under the policy ``granted``. Readers may also send.
            send_policy: The agents that may send to it; see ``mailbox_create``.
            look_policy: The agents that may look into it; see ``mailbox_create``.

        Returns:
            The readers, with all other grants and policies of the mailbox, and whether the broker
            enforces them.

        Raises:
            MailboxNotFound: The mailbox does not exist.
            Forbidden: The mailbox has another creator, or none.
            InvalidRequest: A name is malformed, or no list or policy is set.

        Example:
            ```python
            await client.mailbox_grant("garden", readers=["ada"], send_policy="granted")
            ```
        """
        body = requests.GrantMailbox(
            readers=arguments.agents("readers", readers),
            viewers=arguments.agents("viewers", viewers),
            senders=arguments.agents("senders", senders),
            send_policy=(
                None
                if send_policy is None
                else arguments.member("send_policy", send_policy, SendPolicy.EVERYONE)
            ),
            look_policy=(
                None
                if look_policy is None
                else arguments.member("look_policy", look_policy, LookPolicy.GRANTED)
            ),
        )
        grants = await self._connection.request(body, addresses.parse(mail_address))
        return Granted(
            grants.readers,
            viewers=grants.viewers,
            senders=grants.senders,
            send_policy=grants.send_policy,
            look_policy=grants.look_policy,
            enforced=grants.enforced,
        )

    async def mailbox_list_own(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        desc_prefix: str | None = None,
        details: bool = False,
        text: str | None = None,
    ) -> MailboxPage:
        """List mailboxes by address: an agent's own, or all of them for an operator.

        An authenticated agent sees the mailboxes that it created or whose address is its own. A
        client in the broker's process sees all. So does an operator, if agents are configured. Only
        our broker has this verb.

        Args:
            after: Only addresses after this one, such as the last address of the previous page.
            limit: Maximum number of mailboxes to return, 1 to 1 000. Default: 100.
            desc_prefix: Only mailboxes whose description starts with this text.
            details: Whether to count the messages of each mailbox: ``pending``, ``leased``,
                ``oldest`` and ``dead``. Default: False.
            text: Only mailboxes with this text in their address or description. The letters a-z
                match in either case.

        Raises:
            Forbidden: The broker cannot identify this client.

        Example:
            ```python
            page = await client.mailbox_list_own(desc_prefix="Orders", details=True)
            for mailbox in page.mailboxes:
                print(mailbox.mail_address, mailbox.pending)
            ```
        """
        body = requests.ListMailboxes(
            after=after, limit=limit, desc_prefix=desc_prefix, details=details, text=text
        )
        return await self._connection.request(body)

    async def mailbox_list(self) -> list[PublicMailbox]:
        """List the public mailboxes by address.

        Example:
            ```python
            for mailbox in await client.mailbox_list():
                print(mailbox.mail_address, mailbox.desc)
            ```
        """
        listed: list[PublicMailbox] = []
        more = True
        while more:
            after = listed[-1].mail_address if listed else None
            page = await self._connection.request(requests.ListPublic(after=after))
            listed += page.mailboxes
            more = bool(page.mailboxes) and page.more
        return listed
