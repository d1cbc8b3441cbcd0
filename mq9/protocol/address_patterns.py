"""Patterns of addresses, which limit where an agent may send or what it may read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from mq9.errors import InvalidRequest

_PATTERN = re.compile(r"[a-z0-9.*?\[\]!-]{1,128}")


class AddressPatterns:
    """Patterns of addresses such as ``lawyer`` or ``team.*``.

    ``*`` stands for any characters, including dots, ``?`` for one, and ``[abc]`` for one of
    several. Errors name the patterns by ``field_name``.
    """

    def __init__(self, field_name: str, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not all(isinstance(one, str) for one in patterns):
            raise InvalidRequest(f"{field_name}: {patterns!r} is not a list of address patterns")
        for one in patterns:
            if not _PATTERN.fullmatch(one):
                raise InvalidRequest(
                    f"{field_name}: {one!r} matches no address: these have a-z, 0-9 and dots, for "
                    "which * and ? may stand"
                )
        self._patterns = tuple(patterns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def match(self, mail_address: str) -> bool:
        """Tell whether an address matches one of the patterns."""
        return any(fnmatchcase(mail_address, one) for one in self._patterns)
