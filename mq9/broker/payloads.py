"""In which form payloads are written to one connection."""

from __future__ import annotations

from typing import Any

from mq9.protocol.headers import PayloadEncoding
from mq9.protocol.request import Body, parse_object
from mq9.protocol.requests import Fetch


class PayloadForm:
    """Decides whether the replies to a connection hold base64 or text.

    What a request asks for in its header counts. Otherwise the server's setting does, and with
    ``auto`` the kind of client: the official SDKs decode every payload from base64 and do not say
    so, but are known by the fields that they put into every FETCH.

    Args:
        setting: What the server was told.
    """

    def __init__(self, setting: PayloadEncoding = PayloadEncoding.AUTO) -> None:
        self._default = setting

    def is_base64(
        self, asked: PayloadEncoding | None, request: type[Body[Any]], payload: bytes
    ) -> bool:
        """Tell whether the reply to a request is to hold base64.

        Args:
            asked: What its header asks for.
            request: What is asked.
            payload: The request's body.

        Raises:
            InvalidRequest: The body of a FETCH is no JSON object.
        """
        if asked is not None:
            return asked is PayloadEncoding.BASE64
        if (
            self._default is PayloadEncoding.AUTO
            and request is Fetch
            and _is_official(parse_object(payload))
        ):
            self._default = PayloadEncoding.BASE64  # from now on
        return self._default is PayloadEncoding.BASE64


def _is_official(body: dict[str, object]) -> bool:
    """Tell whether a FETCH has the fields that the official SDKs always send."""
    config = body.get("config")
    return (
        isinstance(config, dict)
        and _has(body, "deliver", "force_deliver")
        and _has(config, "num_msgs", "max_wait_ms")
    )


def _has(fields: dict[str, object], *names: str) -> bool:
    return all(fields.get(name) is not None for name in names)
