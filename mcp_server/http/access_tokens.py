"""Access tokens of an authorization server: JWTs that name the agent by a claim."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import jwt
from mcp.server.auth.provider import AccessToken
from starlette.authentication import AuthenticationError

from mcp_server.http.claimed_names import agent_named
from mcp_server.http.key_set import ALGORITHMS, KeySet, KeysUnavailable
from mcp_server.http.trusted_urls import check_url
from mq9 import InvalidRequest
from mq9 import address as addresses
from mq9.clock import Clock

_logger = logging.getLogger("mq9.mcp")

_LEEWAY_S = 30  # by which two clocks may differ
_MAX_CHARS = 16 * 1024


class CannotVerify(AuthenticationError):
    """A token cannot be verified at the moment."""


class AccessTokens:
    """Verifies the JWTs that an authorization server issues for this resource.

    Args:
        issuer: The URL of the authorization server, as its tokens spell it.
        resource: The URL of this server, which a token has to name as its audience.
        clock: Measures the age of the keys.
        claim: The claim that names the agent.
        scopes: The scopes that a token must have.

    Raises:
        InvalidRequest: A URL, the claim or a scope is none.
    """

    def __init__(
        self,
        issuer: str,
        resource: str,
        clock: Clock,
        *,
        claim: str = "sub",
        scopes: Sequence[str] = (),
    ) -> None:
        check_url("authorization_server", issuer)
        check_url("resource", resource)
        if not claim or not claim.isprintable():
            raise InvalidRequest(f"agent_claim: {addresses.shown(claim)} is no name of a claim")
        for scope in scopes:
            if not scope or not all("!" <= one <= "~" and one not in '"\\' for one in scope):
                raise InvalidRequest(f"scope: {addresses.shown(scope)} is no scope")
        self.issuer = issuer
        self.resource = resource
        self.scopes = tuple(scopes)
        self._claim = claim
        self._keys = KeySet(issuer, clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the keys of the authorization server, while inside."""
        async with self._keys.running():
            yield

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token stands for; None when it is not valid here.

        Raises:
            CannotVerify: The keys of the authorization server cannot be fetched.
        """
        if len(token) > _MAX_CHARS:
            return None
        try:
            claims = await self._verified(token)
            agent = agent_named(claims.get(self._claim))
        except KeysUnavailable as error:
            raise CannotVerify(str(error)) from error
        except (jwt.PyJWTError, InvalidRequest) as error:
            _logger.info("a token is refused: %s", error)
            return None
        client = claims.get("client_id") or claims.get("azp")
        return AccessToken(
            token=token,
            client_id=client if isinstance(client, str) else agent,
            scopes=list(_scopes(claims)),
            resource=self.resource,
            subject=agent,
            claims={"iss": self.issuer},
        )

    async def _verified(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token.

        Raises:
            PyJWTError: It is not valid.
            KeysUnavailable: The keys cannot be fetched, so it cannot be verified.
        """
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"{addresses.shown(algorithm)} is not accepted")
        key = await self._keys.key(kid, algorithm)
        if key is None:
            raise jwt.InvalidKeyError(f"no key {addresses.shown(kid)} for {algorithm}")
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self.resource,
            issuer=self.issuer,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iss", "aud"]},
        )


def _scopes(claims: dict[str, Any]) -> Iterable[str]:
    """Return the scopes of a token, in either of the usual forms."""
    for given in (claims.get("scope"), claims.get("scp")):
        if isinstance(given, str):
            yield from given.split()
        elif isinstance(given, list):
            yield from (one for one in given if isinstance(one, str))
