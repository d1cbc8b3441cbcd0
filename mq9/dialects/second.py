"""The second generation: ``MAILBOX.MSG``, ``MAILBOX.LIST``, ``MAILBOX.DELETE``, subscriptions.

A message is sent to ``MAILBOX.MSG.{address}``, with a priority after the address if it has one, and
whoever is subscribed to that subject is sent it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mq9 import address
from mq9.dialects.listening import ALL, Mail, place, place_of
from mq9.protocol import replies, requests, subjects
from mq9.protocol.headers import RequestHeaders
from mq9.protocol.older_priorities import stored_as
from mq9.protocol.request import Named, fields_of
from mq9.protocol.verbs import OlderVerbs, Target, Verb, Wakes, verb_of

_MSG = "MAILBOX.MSG"
_LISTED = 1_000  # messages of a LIST, the newest ones
# By place in the order of delivery, in the words of the clients that subscribe to all of them.
_PRIORITIES = ("high", "urgent", "normal", "low")


def _is_public(payload: bytes) -> bool:
    """Tell whether a CREATE makes a public mailbox of a name, and is of this generation."""
    fields = fields_of(payload)
    return fields.get("public") is True and bool(fields.get("name")) and "renew" not in fields


def create(payload: bytes, _headers: RequestHeaders, _named: Named) -> requests.CreateMailbox:
    """Read a CREATE, which may be made again: whoever makes it again keeps the mailbox alive."""
    return replace(requests.CreateMailbox.decode(payload), renew=True)


def send(payload: bytes, headers: RequestHeaders, named: Named) -> requests.Send:
    """Read a message whose priority is in its subject."""
    message = requests.Send.read(payload, headers, None)
    if not named.priority:
        return message
    priority, added = stored_as(named.priority)
    own = {**dict(message.headers), **dict(added)}  # the subject counts, not a header beside it
    return replace(message, priority=priority, headers=tuple(own.items()))


def _list(_payload: bytes, _headers: RequestHeaders, _named: Named) -> requests.Query:
    return requests.Query(limit=_LISTED)


_TABLE = (
    replace(verb_of(requests.CreateMailbox), claims=_is_public, decode=create),
    Verb(
        _MSG,
        requests.Send,
        Target.PRIORITY,
        replies.encode_msg_id,
        wakes=Wakes.ITS_GROUPS,
        decode=send,
    ),
    Verb(
        "MAILBOX.LIST",
        requests.Query,
        Target.MAILBOX,
        replies.encode_query,
        reads=True,
        decode=_list,
    ),
    Verb("MAILBOX.DELETE", requests.Delete, Target.MESSAGE, replies.encode_deleted),
)
VERBS: Final[OlderVerbs] = {verb.name: (verb,) for verb in _TABLE}
_SUBJECT = f"{subjects.ROOT}{_MSG}."


def listen(subject: str) -> Mail | None:
    """Return what a subscription to a subject is sent; None for one of another generation.

    Raises:
        InvalidAddress: The mailbox in it is not an address.
    """
    if not subject.startswith(_SUBJECT):
        return None
    mailbox, _, last = subject.removeprefix(_SUBJECT).rpartition(".")
    if last in ALL:
        inbox = f"{_SUBJECT}{mailbox}."
        return Mail(address.parse(mailbox), lambda message: inbox + _PRIORITIES[place(message)])
    _, named = subjects.decode(subject, older=VERBS)
    mail = Mail(named.mail_address, subject_of=lambda _: subject)
    if not named.priority:
        return mail
    wanted = place_of(named.priority)
    return replace(mail, wants=lambda message: place(message) == wanted)
