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
# Whether these are hidden depends on what is beside them.
_IN_CONTEXT = re.compile("\r+(?!\n)|\ufe0f+")
_SELECTOR = "\ufe0f"
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


_spelling = _Spelling({ord(one): ord(one) for one in "\n\t\r\ufe0f"})


def visible(text: str) -> str:
    """Return ``text`` with control, zero-width and direction characters written as ``<U+200B>``.

    Two that hide nothing are left alone: the selector that merely asks for a symbol's colours, and
    the carriage return before a line feed.
    """
    if text.isascii() and text.isprintable():
        return text
    return _IN_CONTEXT.sub(_spell_in_context, text).translate(_spelling)


def _spell_in_context(found: re.Match[str]) -> str:
    run, before = found[0], found.string[max(0, found.start() - 1) : found.start()]
    spelled = _spelled(ord(run[0]))
    if run[0] == _SELECTOR and before and unicodedata.category(before)[0] in "SPN":
        return run[0] + spelled * (len(run) - 1)
    return spelled * len(run)


def readable(payload: bytes) -> tuple[str, str | None]:
    """Return a payload as text, and its encoding where it is not simply text."""
    try:
        return visible(payload.decode("utf-8")), None
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode("ascii"), "base64"
