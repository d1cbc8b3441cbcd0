"""Text written by strangers, made fit for a model: nothing hidden in it, and not too long."""

from __future__ import annotations

import base64
import unicodedata
from itertools import chain

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Invisible, and not in those categories: fillers, joiners, variation selectors, blanks, and what
# Unicode reserves for more of the kind.
_INVISIBLE = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2065, 0x2800),
        *(0x3164, 0xFFA0, 0x16FE4, 0x1D159),
        *range(0xFE00, 0xFE10),
        *range(0xFFF0, 0xFFF9),
        *range(0xE0000, 0xE1000),
    ]
)
_LAYOUT = frozenset("\n\t")
_EMOJI_SELECTOR = "\ufe0f"


def visible(text: str) -> str:
    """Return ``text`` with control, zero-width and direction characters written as ``<U+200B>``.

    Two that hide nothing are left alone: the selector that merely asks for a symbol's colours, and
    the carriage return before a line feed.
    """
    if text.isascii() and text.isprintable():
        return text
    neighbours = zip(chain(" ", text), text, chain(text[1:], " "), strict=False)
    return "".join(
        f"<U+{ord(one):04X}>" if _is_hidden(before, one, after) else one
        for before, one, after in neighbours
    )


def _is_hidden(before: str, character: str, after: str) -> bool:
    if character in _LAYOUT or (character == "\r" and after == "\n"):
        return False
    if character == _EMOJI_SELECTOR and unicodedata.category(before)[0] in "SPN":
        return False
    return unicodedata.category(character) in _HIDDEN_CATEGORIES or ord(character) in _INVISIBLE


def readable(payload: bytes) -> tuple[str, str | None]:
    """Return a payload as text, and its encoding where it is not simply text."""
    try:
        return visible(payload.decode("utf-8")), None
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode("ascii"), "base64"
