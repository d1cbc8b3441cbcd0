"""The second generation: ``MAILBOX.MSG``, ``MAILBOX.LIST``, ``MAILBOX.DELETE``, subscriptions.

A message is sent to ``MAILBOX.MSG.{address}``, with an optional priority after the address. The
subscribers of that subject receive it.

Its published SDKs are `robustmq` up to 1.0 and `langchain-mq9` 0.3. They take a reply with any
field ``error`` for a failure, call a mailbox's address ``mail_id``, and have three priorities. Only
their replies differ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mq9 import address
from mq9.dialects.listening import ALL, Mail, place, place_of
from mq9.errors import Mq9Error
from mq9.protocol import replies, requests, subjects
from mq9.protocol.body import Named, fields_of
from mq9.protocol.headers import RequestHeaders
from mq9.protocol.older_priorities import rank, stored_as
from mq9.protocol.outcomes import Created, Found, Stored
from mq9.protocol.verbs import OlderVerbs, Target, Verb, Wakes, verb_of

_MSG = "MAILBOX.MSG"
_LISTED = 1_000  # messages of a LIST, the newest ones
# By rank in the order of delivery, for clients that subscribe to all of them.
_PRIORITIES = ("high", "urgent", "normal", "low")
_NAMES = {"robustmq-mq9-python"}  # in CONNECT, unless the program sets another name
_PRIVATE = {"ttl"}  # all fields of a CREATE
_PUBLIC = {"ttl", "public", "name", "desc"}
_SDK_PRIORITIES = ("high", "high", "normal", "low")  # by place in the order of delivery
_CODES = {
    "agent_not_found": 404,
    "forbidden": 403,
    "id_conflict": 409,
    "invalid_address": 400,
    "invalid_request": 400,
    "limit_reached": 429,
    "mailbox_exists": 409,
    "mailbox_full": 507,
    "mailbox_not_found": 404,
    "message_not_found": 404,
    "payload_too_large": 413,
    "unauthorized": 401,
}
_OTHER_CODE = 500


def _is_public(payload: bytes) -> bool:
    """Tell whether a CREATE is of this generation and creates a public mailbox with a name."""
    fields = fields_of(payload)
    return fields.get("public") is True and bool(fields.get("name")) and "renew" not in fields


def create(payload: bytes, _headers: RequestHeaders, _named: Named) -> requests.CreateMailbox:
    """Read a CREATE. A repeated one renews the mailbox."""
    return replace(requests.CreateMailbox.decode(payload), renew=True)


def send(payload: bytes, headers: RequestHeaders, named: Named) -> requests.Send:
    """Read a message whose priority is in the subject."""
    message = requests.Send.read(payload, headers, None)
    if not named.priority:
        return message
    priority, added = stored_as(named.priority)
    own = {**dict(message.headers), **dict(added)}  # the subject overrides a header
    return replace(message, priority=priority, headers=tuple(own.items()))


def _list(_payload: bytes, _headers: RequestHeaders, _named: Named) -> requests.Query:
    return requests.Query(limit=_LISTED)


_TABLE = (
    replace(verb_of(requests.CreateMailbox), claims=_is_public, decode=create),
    Verb(
        _MSG,
        requests.Send,
        Target.PRIORITY,
        replies.encode_send,
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
    """Return what a subscription to a subject receives; None for another generation's subject."""
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


def is_sdk(name: str | None) -> bool:
    """Tell whether a client is one of these SDKs by its name in CONNECT."""
    return name in _NAMES


def _is_create(payload: bytes) -> bool:
    """Tell whether a CREATE may be of one of these SDKs; a current one may look the same."""
    fields = fields_of(payload)
    if fields.get("public") is True:
        return {"ttl", "name"} <= fields.keys() <= _PUBLIC
    return fields.keys() == _PRIVATE


def _success(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def _failure(error: Mq9Error) -> dict[str, Any]:
    return {"error": str(error) or error.code, "code": _CODES.get(error.code, _OTHER_CODE)}


def _created(created: Created) -> dict[str, Any]:
    # ``mail_address`` is for a client of another generation whose CREATE looks the same.
    return {"mail_id": created.mail_address, "mail_address": created.mail_address}


def _meta(message: Stored) -> dict[str, Any]:
    headers = (message.envelope or {}).get("headers", {})
    return {
        "msg_id": str(message.msg_id),
        "priority": _SDK_PRIORITIES[rank(message.priority, headers)],
        "ts": message.create_time,
    }


def _listed(found: Found, *, as_base64: bool) -> dict[str, Any]:
    return {"messages": [_meta(message) for message in found.messages]}


def _of_sdk(verb: Verb, **changes: Any) -> Verb:
    return replace(verb, success=_success, failure=_failure, **changes)


def _verb(name: str) -> Verb:
    [verb] = VERBS[name]
    return verb


# `create` renews. This only affects a public mailbox, because a private one has no name.
_SDK_TABLE = (
    _of_sdk(_verb("MAILBOX.CREATE"), claims=_is_create, decode=create, reply=_created),
    _of_sdk(_verb("MAILBOX.LIST"), reply=_listed),
    _of_sdk(_verb("MAILBOX.DELETE")),
)
SDK_VERBS: Final[OlderVerbs] = {verb.name: (verb,) for verb in _SDK_TABLE}
