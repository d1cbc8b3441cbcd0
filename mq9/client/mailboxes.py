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
            name: The address to have; without it, one that nobody can guess is generated.
            ttl: Seconds until the mailbox expires with all that is in it; 0 means never.
            desc: What it is for, up to 1 024 characters.
            public: Whether ``mailbox_list`` names it.
            prefix: What a generated address starts with, before a dot.
            renew: Whether an existing mailbox is fine; its TTL is then started again, and the rest
                of it stays as it is.
            type: ``standard`` keeps all messages. ``latest`` keeps the newest visible one only,
                whatever its key and priority and whoever sends it. Our broker knows types; others
                do not.
            send_policy: Who may send to it: ``everyone``; ``granted``, its creator and those that
                ``mailbox_grant`` names as senders or readers; ``creator``, its creator only. It is
                enforced where the broker tells agents apart, which ``mailbox_status`` says.
            look_policy: Who may look into it without taking anything: ``granted``, its creator and
                those that are its readers or viewers; ``everyone``, all agents. Enforced likewise.
            viewers: The agents that may look into it, at most 64.

        Raises:
            BadReply: The broker does not know types, policies or viewers. It made a mailbox without
                what it does not know.
            MailboxExists: It is there already, and ``renew`` is not set.
            LimitReached: The broker holds as many mailboxes as it may.

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
        """Remove a mailbox with its messages, groups and the registrations that point at it.

        Args:
            mail_address: The mailbox.

        Raises:
            MailboxNotFound: It is not there.

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
            group_name: A consumer group to describe as well.
            msg_id: A message whose history to tell as well.

        Raises:
            MailboxNotFound: The mailbox is not there.

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
        """Say which agents may use a mailbox beside the one that created it.

        It matters where clients authenticate as agents: there, a mailbox that an agent created is
        open to that agent and to those it was granted to; anybody may send to it, unless its policy
        says otherwise. Each list names all agents, at most 64: whoever is left out may no longer. A
        list that is not given stays as it is. Our broker has this verb; others do not.

        Args:
            mail_address: The mailbox.
            readers: They may do what its creator may, but for granting it.
            viewers: They may look at its messages and its status, and take nothing.
            senders: They may send to it under the policy ``granted``; so may its readers.
            send_policy: Who may send to it; see ``mailbox_create``.
            look_policy: Who may look into it; see ``mailbox_create``.

        Returns:
            The readers, with all else that holds now; and whether the broker enforces it.

        Raises:
            MailboxNotFound: The mailbox is not there.
            Forbidden: Another agent created it, or none did.
            InvalidRequest: A name is not one, or nothing is given.

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
        """List mailboxes by address: an agent's own, and all of them for an operator.

        An agent that has authenticated sees those that it made or whose address is its own. A
        client in the broker's process, and an operator where agents are configured, see all. Our
        broker has this verb; others do not.

        Args:
            after: Only addresses after this one, such as the last of the page before.
            limit: Highest number to return, 1 to 1 000.
            desc_prefix: Only mailboxes whose description begins so.
            details: Whether to tell what waits in each: ``pending``, ``leased``, ``oldest`` and
                ``dead``.
            text: Only mailboxes with this text in their address or description, a-z in capitals or
                not.

        Raises:
            Forbidden: The broker does not know who asks.
        """
        body = requests.ListMailboxes(
            after=after, limit=limit, desc_prefix=desc_prefix, details=details, text=text
        )
        return await self._connection.request(body)

    async def mailbox_list(self) -> list[PublicMailbox]:
        """List the public mailboxes by address."""
        listed: list[PublicMailbox] = []
        more = True
        while more:
            after = listed[-1].mail_address if listed else None
            page = await self._connection.request(requests.ListPublic(after=after))
            listed += page.mailboxes
            more = bool(page.mailboxes) and page.more
        return listed
