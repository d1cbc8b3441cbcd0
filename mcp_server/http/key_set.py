"""The public keys of an authorization server, fetched from it and kept for a while."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from mcp_server.http.trusted_urls import check_url
from mq9 import InvalidRequest, Mq9Error
from mq9.address import shown
from mq9.clock import Clock
from mq9.http.loopback import is_loopback

_logger = logging.getLogger("mq9.mcp")

_FRESH_MS = 3_600_000  # then the keys are fetched again, while the old ones serve
_USABLE_MS = 86_400_000  # and for so long where that fails
_BETWEEN_MS = 30_000  # from one fetch for a key that is not there to the next
RETRY_S = 5  # after one that failed
_TIMEOUT_MS = 5_000
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


class KeysUnavailable(Mq9Error):
    """The keys cannot be fetched at the moment, so tokens cannot be verified."""

    code = "unavailable"


class KeySet:
    """The keys that an authorization server signs with.

    They are fetched when it runs, hourly, and for a key that is not there, at most every 30
    seconds. There is one fetch at a time, of at most 5 seconds, and only requests with an unknown
    key wait for it.

    Args:
        issuer: The URL of the authorization server, whose metadata (RFC 8414 or OpenID Connect)
            says where its keys are.
        clock: Measures the age of the keys and the time that a fetch takes.
    """

    def __init__(self, issuer: str, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[tuple[str | None, str], PyJWK] = {}
        self._fetched_ms: int | None = None
        self._tried_ms: int | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None
        self._http: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch the keys and keep them, while inside."""
        # What is on this machine is not asked for through a proxy.
        trust_env = not is_loopback(urlsplit(self._issuer).hostname or "")
        async with httpx2.AsyncClient(timeout=None, trust_env=trust_env) as http:
            self._http = http
            self._begin_fetch()
            try:
                yield
            finally:
                if self._fetching is not None:
                    self._fetching.cancel()
                    await asyncio.wait([self._fetching])

    async def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return a key; None when the authorization server has none of that kind.

        Args:
            kid: Its id; None for the only one of that algorithm.
            algorithm: What it is to be used with, one of ``ALGORITHMS``.

        Raises:
            KeysUnavailable: It is not known, and cannot be fetched.
        """
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
            raise KeysUnavailable("the keys of the authorization server cannot be fetched")
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
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                timer = self._clock.call_later(_TIMEOUT_MS, lambda: limit.reschedule(loop.time()))
                try:
                    metadata = await self._metadata()
                    check_url("jwks_uri", metadata.get("jwks_uri"))
                    keys = _usable((await self._json(metadata["jwks_uri"])).get("keys"))
                finally:
                    timer.cancel()
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

    async def _metadata(self) -> dict[str, Any]:
        """Return the metadata of the authorization server.

        Raises:
            InvalidRequest: There is none, or it names another issuer.
        """
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
            if found.get("issuer") != self._issuer:
                raise InvalidRequest(
                    f"issuer: {shown(found.get('issuer'))} in {url} is not {self._issuer!r}, which "
                    "has to be given in the same spelling"
                )
            return found
        raise InvalidRequest("; ".join(missing))

    async def _json(self, url: str) -> dict[str, Any]:
        """Fetch a JSON object of bounded size.

        Raises:
            InvalidRequest: There is none.
        """
        assert self._http is not None  # noqa: S101  # it runs
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
    """Return the keys that tokens may be signed with, by id and algorithm.

    Raises:
        InvalidRequest: There are none, or too many.
    """
    if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
        raise InvalidRequest(f"keys: it is not a list of at most {_MAX_KEYS}")
    found: dict[tuple[str | None, str], PyJWK] = {}
    for jwk in keys:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
            continue
        kid = jwk.get("kid")
        for algorithm in _algorithms(jwk) if isinstance(kid, str | None) else ():
            try:
                key = PyJWK(jwk, algorithm)
            except PyJWTError:
                break  # it is none, or of a kind that others may use
            if jwk["kty"] != "RSA" or key.key.key_size in _RSA_BITS:
                found.setdefault((kid, algorithm), key)
    if not found:
        raise InvalidRequest("keys: none is an RSA, EC or Ed25519 key to verify signatures with")
    return found


def _algorithms(jwk: dict[str, Any]) -> Sequence[str]:
    """Return the algorithms that a key may be used with; never symmetric ones."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    possible = _RSA if kind == "RSA" else _BY_CURVE.get(f"{kind} {curve}", ())
    return [one for one in possible if jwk.get("alg", one) == one]
