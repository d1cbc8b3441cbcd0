"""What may be sent: bytes, text, or anything that JSON can write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mq9.errors import InvalidRequest
from mq9.models import Payload


def encode(payload: Payload) -> bytes:
    """Return a payload's bytes: as they are, text as UTF-8, anything else as JSON.

    Raises:
        InvalidRequest: It is none of these, or cannot be written so.
    """
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    if isinstance(payload, str):
        try:
            return payload.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"payload: cannot be written as UTF-8: {error}") from None
    if isinstance(payload, (Mapping, list, tuple)):
        return encode_json("payload", payload)
    raise InvalidRequest(f"payload: {type(payload).__name__} is neither bytes, str, dict nor list")


def encode_json(name: str, value: Any) -> bytes:
    """Return a value as JSON.

    Args:
        name: What an error calls it.
        value: Anything; NaN is refused, since JSON has none.

    Raises:
        InvalidRequest: JSON cannot write it.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: cannot be written as JSON: {error}") from None
