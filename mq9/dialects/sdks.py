"""The second generation as its published SDKs read it: `robustmq` up to 1.0, `langchain-mq9` 0.3.

They take a reply with any field ``error`` for a failure, call a mailbox's address ``mail_id``, and
know three priorities. So their replies differ, and nothing else does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mq9.dialects import second
from mq9.errors import Mq9Error
from mq9.protocol.older_priorities import rank
from mq9.protocol.outcomes import Created, Found, Stored
from mq9.protocol.request import fields_of
from mq9.protocol.verbs import OlderVerbs, Verb

_NAMES = {"robustmq-mq9-python"}  # in CONNECT, unless the program has chosen one
_PRIVATE = {"ttl"}  # all fields of a CREATE
_PUBLIC = {"ttl", "public", "name", "desc"}
_PRIORITIES = ("high", "high", "normal", "low")  # by place in the order of delivery
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


def is_sdk(name: str | None) -> bool:
    """Tell by the name in a client's CONNECT whether it is one of these SDKs."""
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
    # The second name is for a client of another generation that makes a mailbox by the same words.
    return {"mail_id": created.mail_address, "mail_address": created.mail_address}


def _meta(message: Stored) -> dict[str, Any]:
    headers = (message.envelope or {}).get("headers", {})
    return {
        "msg_id": str(message.msg_id),
        "priority": _PRIORITIES[rank(message.priority, headers)],
        "ts": message.create_time,
    }


def _listed(found: Found, *, as_base64: bool) -> dict[str, Any]:
    return {"messages": [_meta(message) for message in found.messages]}


def _of_sdk(verb: Verb, **changes: Any) -> Verb:
    return replace(verb, success=_success, failure=_failure, **changes)


def _verb(name: str) -> Verb:
    [verb] = second.VERBS[name]
    return verb


# A private mailbox is made as in the current generation, a public one is renewed.
_TABLE = (
    _of_sdk(_verb("MAILBOX.CREATE"), claims=_is_create, decode=second.create, reply=_created),
    _of_sdk(_verb("MAILBOX.LIST"), reply=_listed),
    _of_sdk(_verb("MAILBOX.DELETE")),
)
VERBS: Final[OlderVerbs] = {verb.name: (verb,) for verb in _TABLE}
