"""Text written by strangers, made fit for a model: nothing hidden in it, and not too long."""

from __future__ import annotations

import base64
import unicodedata

# Invisible, and not in the categories below: fillers, joiners and variation selectors. The selector
# that merely asks for an emoji's colours is left alone.
_INVISIBLE = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
        *range(0xFE00, 0xFE0F),
        *range(0xE0100, 0xE01F0),
    ]
)
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_LAYOUT = frozenset("\n\t")


def visible(text: str) -> str:
    """Return ``text`` with control, zero-width and direction characters written as ``<U+200B>``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(one):04X}>" if _is_hidden(one) else one for one in text)


def _is_hidden(character: str) -> bool:
    if character in _LAYOUT:
        return False
    return unicodedata.category(character) in _HIDDEN_CATEGORIES or ord(character) in _INVISIBLE


def readable(payload: bytes) -> tuple[str, str | None]:
    """Return a payload as text, and its encoding where it is not simply text."""
    try:
        return visible(payload.decode("utf-8")), None
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode("ascii"), "base64"
