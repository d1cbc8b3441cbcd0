"""Text of others on a terminal or in a log: nothing in it acts on either."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Return a text in which only the line ends act on a terminal; the rest is escaped."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode()
        for one in text
    )


def one_line(value: object) -> str:
    """Return a value as a text that stays on its line."""
    return harmless(str(value)).replace("\n", r"\n")
