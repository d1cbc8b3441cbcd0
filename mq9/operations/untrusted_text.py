"""Text written by strangers, made fit for a model: nothing hidden in it, and not too long."""

from __future__ import annotations

import base64
import re
import unicodedata

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
_LONE_RETURNS = re.compile("\r+(?!\n)")
_MOST_SEEN = 0x20000  # characters below are remembered: all scripts in use, and emoji


class _Spelling(dict[int, int | str]):
    """How ``str.translate`` writes each character, looked up when it is first seen."""

    def __missing__(self, code: int) -> int | str:
        hidden = code in _INVISIBLE or unicodedata.category(chr(code)) in _HIDDEN_CATEGORIES
        written = _spelled(code) if hidden else code
        if code < _MOST_SEEN:
            self[code] = written
        return written


def _spelled(code: int) -> str:
    return f"<U+{code:04X}>"


_spelling = _Spelling({ord(one): ord(one) for one in "\n\t\r"})


def visible(text: str) -> str:
    """Return ``text`` with every character that is not seen written as ``<U+200B>``.

    Those are control, zero-width, direction, filler and tag characters, and variation selectors,
    also the one that merely asks for a symbol's colours. A carriage return before a line feed is
    left alone.
    """
    if text.isascii() and text.isprintable():
        return text
    return _LONE_RETURNS.sub(_spell_out, text).translate(_spelling)


def _spell_out(found: re.Match[str]) -> str:
    return "".join(_spelled(ord(one)) for one in found[0])


def readable(payload: bytes) -> tuple[str, str | None]:
    """Return a payload as text, and its encoding where it is not simply text."""
    try:
        return visible(payload.decode("utf-8")), None
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode("ascii"), "base64"
