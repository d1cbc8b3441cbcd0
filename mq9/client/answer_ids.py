"""Idempotency ids of answers, which follow from the message that is answered."""

from __future__ import annotations

import hashlib

from mq9.models import StoredMessage


def answer_digest(message: StoredMessage) -> str | None:
    """Return what is the same for every delivery of a message to a group; None outside groups."""
    if message.group_name is None:
        return None
    what = (message.mail_address, message.group_name, message.msg_id, message.create_time)
    digest = hashlib.sha256("\n".join(map(str, what)).encode() + b"\n" + message.payload)
    return digest.hexdigest()


def answer_id(message: StoredMessage) -> str | None:
    """Return the id of a group's answer, the same for every delivery; None outside groups."""
    digest = answer_digest(message)
    return None if digest is None else f"answer.{digest}"
