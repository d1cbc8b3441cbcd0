"""Access to the desk: the link that is good once, sessions in a cookie, genuine requests."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request

from mq9.clock import Clock
from mq9.desk.people import Person

_LINK_MS = 10 * 60_000
_IDLE_MS = 12 * 3_600_000
_MOST_SESSIONS = 1_000
_TOKEN_BYTES = 32
SAFE_METHODS = ("GET", "HEAD")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class Link:
    """The secret of a link that lets one browser in, once, within ten minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digest: bytes | None = None
        self._until_ms = 0

    def renew(self) -> str:
        """Return a new secret; an earlier one is good no more."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._digest = _digest(token)
        self._until_ms = self._clock.monotonic_ms() + _LINK_MS
        return token

    def redeem(self, token: str) -> bool:
        """Return whether a secret is valid, and use it up."""
        if self._digest is None or self._clock.monotonic_ms() >= self._until_ms:
            return False
        if not hmac.compare_digest(self._digest, _digest(token)):
            return False
        self._digest = None
        return True


@dataclass(slots=True)
class Session:
    """A browser that has logged in."""

    person: Person
    csrf: str  # that forms of this session hold
    used_ms: int
    notices: list[tuple[str, bool]] = field(default_factory=list)  # to show next; is it a problem


class Sessions:
    """The browsers that have logged in, by the digest of their cookie."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_digest: OrderedDict[bytes, Session] = OrderedDict()  # the last one used last

    def begin(self, person: Person) -> str:
        """Let a browser in, and return the value of its cookie."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        csrf = secrets.token_urlsafe(_TOKEN_BYTES)
        self._by_digest[_digest(token)] = Session(person, csrf, self._clock.monotonic_ms())
        while len(self._by_digest) > _MOST_SESSIONS:
            self._by_digest.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        """Return the session of a cookie; None for one that is unknown or was idle for long."""
        if token is None:
            return None
        digest = _digest(token)
        session = self._by_digest.get(digest)
        if session is None:
            return None
        now = self._clock.monotonic_ms()
        if now - session.used_ms >= _IDLE_MS:
            del self._by_digest[digest]
            return None
        session.used_ms = now
        self._by_digest.move_to_end(digest)
        return session

    def end(self, token: str) -> None:
        """End the session of a cookie."""
        self._by_digest.pop(_digest(token), None)

    def end_unless(self, may_stay: Callable[[Person], bool]) -> set[Person]:
        """End the sessions of those who may not stay, and return them."""
        ended = {digest: one.person for digest, one in self._by_digest.items()}
        ended = {digest: person for digest, person in ended.items() if not may_stay(person)}
        for digest in ended:
            del self._by_digest[digest]
        return set(ended.values())

    def has(self, person: Person) -> bool:
        """Return whether a person has a session."""
        return any(one.person == person for one in self._by_digest.values())


def is_own_origin(request: Request) -> bool:
    """Return whether a changing request comes from one of the desk's own pages."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    parts = urlsplit(origin)
    return parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("host")


def is_genuine(session: Session, given: object) -> bool:
    """Return whether a form has the token of the session."""
    return isinstance(given, str) and hmac.compare_digest(_digest(session.csrf), _digest(given))
