"""The first generation: ``INBOX``, ``BROADCAST``, ``MAILBOX.QUERY`` with a token.

The client that creates a mailbox gets a ``mail_id``, the address for mail, and a token for QUERY.
The token is the generation of the mailbox, which only its readers learn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mq9 import address
from mq9.dialects import second
from mq9.dialects.listening import ALL, Broadcast, Listening, Mail, place, place_of
from mq9.errors import InvalidRequest
from mq9.protocol import checks, replies, requests, subjects
from mq9.protocol.body import Named, fields_of, parse_object
from mq9.protocol.headers import RequestHeaders
from mq9.protocol.outcomes import Created, Fetched, Stored
from mq9.protocol.verbs import OlderVerbs, Target, Verb, Wakes, verb_of

READERS = "mq9.inbox"  # the group whose cursors tell the unread messages
_NOTIFY_TTL_S = 86_400  # default TTL of messages with the priority ``notify``
# By place in the order of delivery.
_PRIORITIES = ("urgent", "urgent", "normal", "notify")


def _is_typed(payload: bytes) -> bool:
    """Tell whether a CREATE is of this generation, in which every CREATE has a type."""
    fields = fields_of(payload)
    return "type" in fields and "renew" not in fields


def _created(created: Created) -> dict[str, Any]:
    return {
        "mail_id": created.mail_address,
        "token": created.generation,
        "inbox": f"{_INBOX}{created.mail_address}",
    }


def _send(payload: bytes, headers: RequestHeaders, named: Named) -> requests.Send:
    message = second.send(payload, headers, named)
    if named.priority == "notify" and message.ttl is None:
        return replace(message, ttl=_NOTIFY_TTL_S + (message.delay or 0))
    return message


def _query(payload: bytes, _headers: RequestHeaders, _named: Named) -> requests.QueryUnread:
    token = parse_object(payload).get("token")
    if not isinstance(token, str) or not token:
        raise InvalidRequest(
            f"token: {checks.shown(token)} is not the token that CREATE has answered"
        )
    return requests.QueryUnread(group_name=READERS, generation=token)


def _unread(fetched: Fetched, *, as_base64: bool) -> dict[str, Any]:
    messages = tuple(sorted(fetched.messages, key=place))
    reply = replies.encode_fetch(replace(fetched, messages=messages), as_base64=as_base64)
    more = {"more": True} if fetched.more else {}
    return {
        "mail_id": fetched.mail_address,
        "unread": len(fetched.messages),
        "messages": reply["messages"],
        **more,
    }


_TABLE = (
    replace(verb_of(requests.CreateMailbox), claims=_is_typed, reply=_created),
    Verb(
        "INBOX",
        requests.Send,
        Target.PRIORITY,
        replies.encode_send,
        wakes=Wakes.ITS_GROUPS,
        decode=_send,
    ),
    Verb("MAILBOX.QUERY", requests.QueryUnread, Target.MAILBOX, _unread, reads=True, decode=_query),
)
VERBS: Final[OlderVerbs] = {verb.name: (verb,) for verb in _TABLE}
_INBOX = f"{subjects.ROOT}INBOX."
BROADCAST: Final = f"{subjects.ROOT}BROADCAST."


def listen(subject: str) -> Listening | None:
    """Return what a subscription to a subject receives; None for another generation's subject.

    In the subject of a broadcast, ``#`` at the end means ``>``.
    """
    if subject.startswith(BROADCAST):
        return Broadcast(f"{subject[:-1]}>" if subject.endswith(".#") else subject)
    if not subject.startswith(_INBOX):
        return None
    inbox, _, last = subject.removeprefix(_INBOX).rpartition(".")
    if last in ALL:
        named = Named(address.parse(inbox))  # though it may end in the name of a priority
    else:
        _, named = subjects.decode(subject, older=VERBS)
    mail_address = named.mail_address

    def subject_of(message: Stored) -> str:
        return f"{_INBOX}{mail_address}.{_PRIORITIES[place(message)]}"

    if not named.priority:
        return Mail(mail_address, subject_of, read_by=READERS)
    wanted = _PRIORITIES[place_of(named.priority)]

    def wants(message: Stored) -> bool:
        return _PRIORITIES[place(message)] == wanted

    return Mail(mail_address, lambda _: subject, wants)
