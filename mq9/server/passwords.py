"""Passwords as they may be kept: scrypt hashes that carry their own parameters.

A hash is ``scrypt:LOG2N:R:P:SALT:KEY``, salt and key in URL-safe base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from mq9.errors import InvalidRequest

PREFIX = "scrypt:"
SALT_BYTES = 16
_KEY_BYTES = 32
_LOG2N, _R, _P = 15, 8, 3  # 32 MiB and some 0.2 s for each guess
_MOST_WORK = 2**21  # of N * r * p: 256 MiB, or some seconds
_FORM = re.compile(r"scrypt:(\d{1,2}):(\d{1,2}):(\d{1,2}):([\w-]{8,128}):([\w-]{22,128})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What a password is compared with.

    Attributes:
        log2n: The binary logarithm of scrypt's cost.
        r: scrypt's block size.
        p: scrypt's parallelization.
        salt: Random bytes.
        key: What scrypt made of the password.
    """

    log2n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    def matches(self, password: str) -> bool:
        """Tell whether this is the password. Takes tenths of a second, on purpose."""
        made = _scrypt(password, self.salt, self.log2n, self.r, self.p, len(self.key))
        return hmac.compare_digest(made, self.key)

    def __str__(self) -> str:
        salt, key = _encoded(self.salt), _encoded(self.key)
        return f"{PREFIX}{self.log2n}:{self.r}:{self.p}:{salt}:{key}"


def hash_password(password: str, salt: bytes) -> PasswordHash:
    """Hash a password.

    Args:
        password: What to hash.
        salt: ``SALT_BYTES`` random bytes.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"salt: {len(salt)} bytes, {SALT_BYTES} are needed")
    key = _scrypt(password, salt, _LOG2N, _R, _P, _KEY_BYTES)
    return PasswordHash(_LOG2N, _R, _P, salt, key)


def parse(what: str, text: str) -> PasswordHash:
    """Read a hash.

    Args:
        what: Which field it stands in, for the error.
        text: The hash, with its prefix.

    Raises:
        InvalidRequest: It is not one, or would take too much time or memory to compare with. The
            text does not show it.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{what}: after {PREFIX} there must be what `mq9 hash-password` prints: "
            "LOG2N:R:P:SALT:KEY"
        )
    log2n, r, p = (int(number) for number in found.groups()[:3])
    if 0 in {log2n, r, p} or log2n > 20 or 2**log2n * r * p > _MOST_WORK:
        raise InvalidRequest(f"{what}: scrypt:{log2n}:{r}:{p} is no cost, or too high a one")
    try:
        salt, key = (_decoded(part) for part in found.groups()[3:])
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


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
