"""Access tokens of an authorization server: JWTs that name the agent by a claim."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from mcp.server.auth.provider import AccessToken
from starlette.authentication import AuthenticationError

from mcp_server.callers import in_time
from mcp_server.http.settings import check_url
from mq9 import InvalidAddress, InvalidRequest, Mq9Error
from mq9 import address as addresses
from mq9.clock import Clock
from mq9.http import is_loopback

_logger = logging.getLogger("mq9.mcp")

_LEEWAY_S = 30  # by which two clocks may differ
_MAX_CHARS = 16 * 1024


class CannotVerify(AuthenticationError):
    """A token cannot be verified at the moment."""


class AccessTokens:
    """Verifies the JWTs that an authorization server issues for this resource."""

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
            raise InvalidRequest(
                f"agent_claim: {addresses.shown(claim)} is not the name of a claim"
            )
        for scope in scopes:
            if not scope or not all("!" <= one <= "~" and one not in '"\\' for one in scope):
                raise InvalidRequest(f"scope: {addresses.shown(scope)} is not a scope")
        self.issuer = issuer
        self.resource = resource
        self.scopes = tuple(scopes)
        self._claim = claim
        self._keys = KeySet(issuer, clock)
        self.running = self._keys.running

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token stands for; None when it is not valid here."""
        if len(token) > _MAX_CHARS:
            return None
        try:
            claims = await self._verified(token)
            agent = agent_named(claims.get(self._claim))
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


# What the names of the agents begin with: those whose name in the token can be an address, and
# the others, which are told apart by a digest.
_PLAIN = "oauth"
_HASHED = "oauthx"
_DIGEST_CHARS = 32
_READABLE_CHARS = 80
_MAX_NAME_CHARS = 1_000


def agent_named(value: object) -> str:
    """Return the name of the agent that a claim names: the claim itself, or with a digest."""
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
    """Check that agents with tokens of their own cannot be taken for those of a claim."""
    for agent in agents:
        if addresses.slug(agent).split(".")[0] in {_PLAIN, _HASHED}:
            raise InvalidRequest(
                f"tokens: {agent!r} begins as agents of the authorization server do; rename it"
            )


_FRESH_MS = 3_600_000  # then the keys are fetched again, while the old ones serve
_USABLE_MS = 86_400_000  # and for so long where that fails
_BETWEEN_MS = 30_000  # from one fetch for a key that is not there to the next
RETRY_S = 5  # after one that failed
_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 1024
_MAX_KEYS = 100
_RSA_BITS = range(2048, 8192 + 1)

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
}
ALGORITHMS = frozenset([*_RSA, *(one for names in _BY_CURVE.values() for one in names)])


class KeySet:
    """The keys that an authorization server signs with.

    They are fetched when it runs, hourly, and for a key that is not there, at most every 30
    seconds. There is one fetch at a time, of at most 5 seconds, and only requests with an unknown
    key wait for it.
    """

    def __init__(self, issuer: str, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[tuple[str | None, str], PyJWK] = {}
        self._fetched_ms: int | None = None
        self._tried_ms: int | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None
        # What is on this machine is not asked for through a proxy.
        trust_env = not is_loopback(urlsplit(issuer).hostname or "")
        self._http = httpx2.AsyncClient(timeout=None, trust_env=trust_env)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch the keys and keep them, while inside."""
        async with self._http:
            self._begin_fetch()
            try:
                yield
            finally:
                if self._fetching is not None:
                    self._fetching.cancel()
                    await asyncio.wait([self._fetching])

    async def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return a key, without an id the only one; None when the server has none of that kind."""
        age_ms = self._age_ms
        found = None if age_ms > _USABLE_MS else self._find(kid, algorithm)
        if found is not None:
            if age_ms > _FRESH_MS:
                self._begin_fetch()
            return found
        self._begin_fetch()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
        if self._has_failed or self._age_ms > _USABLE_MS:
            raise CannotVerify("the keys of the authorization server cannot be fetched")
        return self._find(kid, algorithm)

    @property
    def _age_ms(self) -> float:
        if self._fetched_ms is None:
            return float("inf")
        return self._clock.monotonic_ms() - self._fetched_ms

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        of_kind = [key for (_, one), key in self._keys.items() if one == algorithm]
        return of_kind[0] if len(of_kind) == 1 else None

    def _begin_fetch(self) -> None:
        """Begin to fetch, unless that is going on or was done just before."""
        now = self._clock.monotonic_ms()
        pause_ms = RETRY_S * 1000 if self._has_failed else _BETWEEN_MS
        if self._fetching is None and (self._tried_ms is None or now - self._tried_ms >= pause_ms):
            self._tried_ms = now
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            keys = await in_time(self._clock, _TIMEOUT_S, self._published())
        except (Mq9Error, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            self._has_failed = True
            what = str(error) or type(error).__name__
            _logger.warning("the keys of %s cannot be fetched: %s", self._issuer, what)
        else:
            self._has_failed = False
            self._keys = keys
            self._fetched_ms = self._clock.monotonic_ms()
        finally:
            self._fetching = None

    async def _published(self) -> dict[tuple[str | None, str], PyJWK]:
        metadata = await self._metadata()
        check_url("jwks_uri", metadata.get("jwks_uri"))
        return _usable((await self._json(metadata["jwks_uri"])).get("keys"))

    async def _metadata(self) -> dict[str, Any]:
        parts = urlsplit(self._issuer)
        root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        known = [
            f"{root}/.well-known/oauth-authorization-server{path}",
            f"{root}/.well-known/openid-configuration{path}",
            f"{root}{path}/.well-known/openid-configuration",
        ]
        missing = []
        for url in dict.fromkeys(known):
            try:
                found = await self._json(url)
            except InvalidRequest as error:
                missing.append(str(error))
                continue
            if (issuer := found.get("issuer")) != self._issuer:
                raise InvalidRequest(
                    f"issuer: {addresses.shown(issuer)} in {url} is not {self._issuer!r}, which "
                    "has to be given in the same spelling"
                )
            return found
        raise InvalidRequest("; ".join(missing))

    async def _json(self, url: str) -> dict[str, Any]:
        """Fetch a JSON object of bounded size."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._http.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise InvalidRequest(f"{url}: answered {response.status_code}")
            body = b""
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise InvalidRequest(f"{url}: more than {_MAX_BYTES} bytes")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{url}: it is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidRequest(f"{url}: it is not a JSON object")
        return found


def _usable(keys: Any) -> dict[tuple[str | None, str], PyJWK]:
    """Return the keys that tokens may be signed with, by id and algorithm."""
    if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
        raise InvalidRequest(f"keys: it is not a list of at most {_MAX_KEYS}")
    found: dict[tuple[str | None, str], PyJWK] = {}
    for jwk in keys:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
            continue
        kid, kind = jwk.get("kid"), jwk.get("kty")
        possible = _RSA if kind == "RSA" else _BY_CURVE.get(f"{kind} {jwk.get('crv')}", ())
        for algorithm in possible:  # never a symmetric one
            if not isinstance(kid, str | None) or jwk.get("alg", algorithm) != algorithm:
                continue
            try:
                key = PyJWK(jwk, algorithm)
            except PyJWTError:
                break  # it is none, or of a kind that others may use
            if jwk["kty"] != "RSA" or key.key.key_size in _RSA_BITS:
                found.setdefault((kid, algorithm), key)
    if not found:
        raise InvalidRequest("keys: none is an RSA, EC or Ed25519 key to verify signatures with")
    return found
