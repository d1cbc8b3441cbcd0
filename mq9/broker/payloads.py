"""In which form payloads are written to one connection."""

from __future__ import annotations

from typing import Any

from mq9.broker import official
from mq9.protocol.headers import PayloadEncoding
from mq9.protocol.request import Body, parse_object
from mq9.protocol.requests import CreateMailbox, Fetch


class PayloadForm:
    """Decides whether the replies to a connection hold base64 or text.

    What a request asks for in its header counts. Otherwise the server's setting does, and with
    ``auto`` the kind of client: the official SDKs decode every payload from base64 and do not say
    so. Every FETCH tells whether it is theirs. Until the first one, a CREATE that is theirs byte
    for byte is a good sign.

    Args:
        setting: What the server was told.
        library: The ``lang`` of the connection's CONNECT; None where there is none.
    """

    def __init__(
        self, setting: PayloadEncoding = PayloadEncoding.AUTO, library: str | None = None
    ) -> None:
        self._default = setting
        self._library = library
        self._guess: PayloadEncoding | None = None  # with auto, before the client is known

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
        if self._default is PayloadEncoding.AUTO:
            self._learn(request, payload)
        return PayloadEncoding.BASE64 in {self._default, self._guess}

    def _learn(self, request: type[Body[Any]], payload: bytes) -> None:
        """Look for signs of an official SDK."""
        if request is Fetch:
            if official.is_fetch(parse_object(payload)):
                self._default = PayloadEncoding.BASE64  # from now on
            else:
                self._guess = PayloadEncoding.TEXT
        elif (
            request is CreateMailbox
            and self._guess is None
            and official.may_be_create(payload, self._library)
        ):
            self._guess = PayloadEncoding.BASE64
