"""How requests of the official mq9 SDKs look, since their clients do not introduce themselves.

There is one for Python, Go, Rust, JavaScript, Java and C#. All of them write the same few fields in
each request, and connect without a name.
"""

from __future__ import annotations

import re
from typing import Final

from mq9.models import Deliver
from mq9.protocol.request import fields_of
from mq9.protocol.requests import Fetch

_FETCH: Final = {"group_name", "deliver", "from_time", "from_id", "force_deliver", "config"}
_CONFIG: Final = {"num_msgs", "max_wait_ms"}

# A CREATE byte for byte: a number of seconds, and perhaps a name. JSON writers differ in spaces.
_NAME = rb'"[a-z0-9.]+"'
_PYTHON = re.compile(rb'\{"ttl": \d+(?:, "name": %s)?\}' % _NAME)
_COMPACT = re.compile(rb'\{(?:"name":%s,)?"ttl":\d+\}|\{"ttl":\d+,"name":%s\}' % (_NAME, _NAME))
_PYTHON_LIBRARY = "python3"  # as nats-py calls itself


def may_be_create(payload: bytes, library: str | None) -> bool:
    """Tell whether a CREATE has the very bytes that an official SDK writes.

    Args:
        payload: The body of the request.
        library: The ``lang`` of the connection's CONNECT; None for none, as no SDK connects.
    """
    if library is None:
        return False
    if _PYTHON.fullmatch(payload):
        return True
    return library != _PYTHON_LIBRARY and _COMPACT.fullmatch(payload) is not None


def is_fetch(body: dict[str, object]) -> bool:
    """Tell whether a FETCH has the fields that the official SDKs always send."""
    config = body.get("config")
    return (
        isinstance(config, dict)
        and _has(body, "deliver", "force_deliver")
        and _has(config, *_CONFIG)
    )


def reads_on(fetch: Fetch, payload: bytes) -> bool:
    """Tell whether a FETCH is one of those by which their ``consume`` reads without a group.

    Args:
        fetch: The request.
        payload: Its body.
    """
    if fetch.group_name is not None or fetch.deliver is not Deliver.LATEST:
        return False
    body = fields_of(payload)
    config = body.get("config")
    return (
        is_fetch(body)
        and body.keys() <= _FETCH
        and isinstance(config, dict)
        and config.keys() == _CONFIG
    )


def _has(fields: dict[str, object], *names: str) -> bool:
    return all(fields.get(name) is not None for name in names)
