"""The senders of messages: known facts, apart from their own words."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mq9.errors import Mq9Error
from mq9.models import PRIORITIES, Message, Priority
from mq9.operations.caller import Caller
from mq9.operations.discovery import look_up
from mq9.operations.message_views import ELSEWHERE, GENUINE, OWN, SenderView, time_at

_logger = logging.getLogger("mq9.operations")

_AT_ONCE = 100  # names of one request


async def senders_of(
    caller: Caller, mail_address: str, messages: Sequence[Message]
) -> dict[int, SenderView]:
    """Return the facts about each sender with a genuine name, by msg_id."""
    names = {one.msg_id: one.sender for one in messages if one.sender and one.sender_verified}
    known, mailboxes = await _known(
        caller, mail_address, list(dict.fromkeys(names.values())), messages
    )
    views = {msg_id: known[name] for msg_id, name in names.items()}
    for one in messages:
        registered = mailboxes.get(names.get(one.msg_id, ""))
        if one.reply_to and registered and not _is_of(one.reply_to, registered):
            views[one.msg_id] = views[one.msg_id].model_copy(update={"reply_to": ELSEWHERE})
    return views


def _is_of(mail_address: str, registered: str) -> bool:
    """Return whether a mailbox is an agent's own, or one of its threads."""
    return mail_address == registered or mail_address.startswith(f"{registered}.")


async def _known(
    caller: Caller, mail_address: str, names: Sequence[str], messages: Sequence[Message]
) -> tuple[dict[str, SenderView], dict[str, str]]:
    """Look up verified names; on a broker that cannot, nothing but that they are genuine.

    The mailboxes are of those that have registered themselves.
    """
    known = dict.fromkeys(names, SenderView(name_is=GENUINE))
    mailboxes: dict[str, str] = {}
    own = None if caller.identity is None else caller.identity.name
    if own in known:
        known[own] = SenderView(name_is=OWN)
        names = [one for one in names if one != own]
    first = min((one.msg_id for one in messages), default=0)
    for start in range(0, len(names), _AT_ONCE):
        several = names[start : start + _AT_ONCE]
        try:
            found = await look_up(caller.client, names=several, wrote_to=mail_address, before=first)
        except Mq9Error as error:  # the fetched messages must not be lost
            _logger.warning("senders of mail to %s were not looked up: %s", mail_address, error)
            break
        for one in found or ():
            since = one.wrote_verified
            if one.registered and one.by == one.name and one.mailbox:
                mailboxes[one.name] = one.mailbox
            known[one.name] = SenderView(
                name_is=GENUINE,
                registered=one.registered and one.by == one.name,
                known_since=None if since is None else time_at(int(since)),
                first_contact=since is None or None,
            )
    return known, mailboxes


def in_order(
    caller: Caller, messages: Iterable[Message], senders: Mapping[int, SenderView]
) -> list[Message]:
    """Return messages most pressing first.

    Urgent and critical are the sender's words. Of a stranger, a few such claims count.
    """
    claims: Counter[str | None] = Counter()

    def rank(message: Message) -> int:
        sender = senders.get(message.msg_id)
        if message.priority is not Priority.NORMAL and sender is not None and sender.is_stranger:
            claims[message.sender] += 1
            if claims[message.sender] > caller.stranger_claims:
                return PRIORITIES.index(Priority.NORMAL)
        return PRIORITIES.index(message.priority)

    oldest_first = sorted(messages, key=lambda one: (PRIORITIES.index(one.priority), one.msg_id))
    return sorted(oldest_first, key=rank)
