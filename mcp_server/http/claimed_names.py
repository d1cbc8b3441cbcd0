"""The names of the agents that access tokens name by a claim."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from mq9 import InvalidAddress, InvalidRequest
from mq9 import address as addresses

# What the names of the agents begin with: those whose name in the token can be an address, and
# the others, which are told apart by a digest.
_PLAIN = "oauth"
_HASHED = "oauthx"
_DIGEST_CHARS = 32
_READABLE_CHARS = 80
_MAX_NAME_CHARS = 1_000


def agent_named(value: object) -> str:
    """Return the name of the agent that a claim names, which no other value of the claim gets.

    It begins with ``oauth.``, or with ``oauthx.`` and ends with a digest where the value is not an
    address that could stand behind the former.

    Raises:
        InvalidRequest: The value is no text, or too long.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_CHARS:
        raise InvalidRequest(
            f"the claim that names the agent is {addresses.shown(value)}, not a text of at most "
            f"{_MAX_NAME_CHARS} characters"
        )
    try:
        return addresses.parse(f"{_PLAIN}.{value}")
    except InvalidAddress:
        pass  # which is what the digest is for
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    readable = addresses.slug(f"{_HASHED}.{value[:_READABLE_CHARS]}")
    return f"{readable}.{digest}"


def check_apart(agents: Iterable[str]) -> None:
    """Check that agents with tokens of their own cannot be taken for those of a claim.

    Raises:
        InvalidRequest: One of them could.
    """
    for agent in agents:
        if addresses.slug(agent).split(".")[0] in {_PLAIN, _HASHED}:
            raise InvalidRequest(
                f"tokens: {agent!r} begins as agents of the authorization server do; rename it"
            )
