"""Passwords as they may be kept, and the work of comparing them, divided among addresses.

A hash is ``scrypt:LOG2N:R:P:SALT:KEY``, salt and key in URL-safe base64.

A comparison uses tenths of a second of a CPU, on purpose. So a client that guesses must not delay
the others: each address has one comparison at work, the addresses take turns, and those from which
a client was admitted before have a thread of their own. At one address the user names that have
failed least come first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from weakref import WeakValueDictionary

from mq9.errors import InvalidRequest

PREFIX = "scrypt:"
SALT_BYTES = 16
_KEY_BYTES = 32
_LOG2N, _R, _P = 15, 8, 3  # 32 MiB and some 0.2 s for each guess
_MOST_WORK = 2**21  # of N * r * p: 256 MiB, or some seconds
_FORM = re.compile(r"scrypt:(\d{1,2}):(\d{1,2}):(\d{1,2}):([\w-]{8,128}):([\w-]{22,128})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """The hash of a password: the costs of scrypt, and its result."""

    log2n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    def matches(self, password: str) -> bool:
        """Return whether this is the password. Takes tenths of a second, on purpose."""
        made = _scrypt(password, self.salt, self.log2n, self.r, self.p, len(self.key))
        return hmac.compare_digest(made, self.key)

    def __str__(self) -> str:
        salt, key = (
            base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (self.salt, self.key)
        )
        return f"{PREFIX}{self.log2n}:{self.r}:{self.p}:{salt}:{key}"


def hash_password(password: str, salt: bytes) -> PasswordHash:
    """Hash a password."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"salt: {len(salt)} bytes, {SALT_BYTES} are needed")
    key = _scrypt(password, salt, _LOG2N, _R, _P, _KEY_BYTES)
    return PasswordHash(_LOG2N, _R, _P, salt, key)


def parse(what: str, text: str) -> PasswordHash:
    """Read a hash."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{what}: after {PREFIX} there must be what `mq9 hash-password` prints: "
            "LOG2N:R:P:SALT:KEY"
        )
    log2n, r, p = (int(number) for number in found.groups()[:3])
    if 0 in {log2n, r, p} or log2n > 20 or 2**log2n * r * p > _MOST_WORK:
        raise InvalidRequest(f"{what}: scrypt:{log2n}:{r}:{p} is not a valid cost, or is too high")
    try:
        salt, key = (base64.urlsafe_b64decode(f"{part}===") for part in found.groups()[3:])
    except binascii.Error:
        raise InvalidRequest(f"{what}: the salt or the key is not URL-safe base64") from None
    return PasswordHash(log2n, r, p, salt, key)


def _scrypt(password: str, salt: bytes, log2n: int, r: int, p: int, size: int) -> bytes:
    return hashlib.scrypt(
        password.encode(errors="surrogatepass"),
        salt=salt,
        n=2**log2n,
        r=r,
        p=p,
        maxmem=256 * (2**log2n * r + r * p),  # twice what it needs
        dklen=size,
    )


_THREADS = max(1, (os.cpu_count() or 1) // 2)  # the other CPUs are for other requests
_MOST_TRUSTED = 1_024  # addresses that are remembered
_MOST_FAILED = 4_096  # names at addresses whose failures are remembered

K = TypeVar("K")
V = TypeVar("V")
MakeThreads: TypeAlias = Callable[[int, str], Executor]


class Guesses:
    """Compares passwords with hashes on threads, fairly among addresses."""

    def __init__(self, make_threads: MakeThreads = ThreadPoolExecutor) -> None:
        self._strangers = make_threads(_THREADS, "mq9-passwords")
        self._trusted = make_threads(1, "mq9-known-addresses")
        self._lines: WeakValueDictionary[str, _AddressLine] = WeakValueDictionary()
        self._right: OrderedDict[str, None] = OrderedDict()  # addresses, the last one newest
        self._failures: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    async def is_right(self, name: str, password: str, kept: PasswordHash, address: str) -> bool:
        """Return whether a password is right, when the turn of the address comes."""
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _AddressLine(
                lambda one: self._failures.get((address, one), 0)
            )
        async with line.turn(digest):
            threads = self._trusted if address in self._right else self._strangers
            loop = asyncio.get_running_loop()
            is_right = await loop.run_in_executor(threads, kept.matches, password)
            if not is_right:  # noted before the next one is chosen
                place = (address, digest)
                _remember(self._failures, place, self._failures.get(place, 0) + 1, _MOST_FAILED)
        return is_right

    def trust(self, address: str) -> None:
        """Note that a client from an address was admitted."""
        _remember(self._right, address, None, _MOST_TRUSTED)


class _AddressLine:
    """Comparisons of one address, one at a time."""

    def __init__(self, failures: Callable[[bytes], int]) -> None:
        self._failures = failures
        self._is_busy = False
        self._waiting: dict[asyncio.Future[None], bytes] = {}  # the names, in order of arrival

    @asynccontextmanager
    async def turn(self, name: bytes) -> AsyncIterator[None]:
        """Wait for the turn of a name, and hold it inside."""
        if self._is_busy:
            await self._wait(name)
        self._is_busy = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, name: bytes) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = name
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None) is None:
                self._pass_on()  # it has just got the turn
            raise

    def _pass_on(self) -> None:
        """Choose the name with the fewest failures, and of these the newest attempt.

        In a flood the oldest clients have left, or leave before they are admitted.
        """
        if not self._waiting:
            self._is_busy = False
            return
        turn = min(reversed(self._waiting), key=lambda one: self._failures(self._waiting[one]))
        del self._waiting[turn]
        turn.set_result(None)


def _remember(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value as the newest, and forget the oldest beyond a number."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
