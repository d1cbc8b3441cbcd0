"""Text as SQLite's tokenizer is to see it, on the side of the agents and of the questions alike.

The tokenizer splits at spaces, which Chinese and Japanese do not write. Runs of their characters
are therefore indexed, and asked for, as overlapping pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003fffd"
)
_RUN_OF_CJK = re.compile(f"[{_CJK}]+")
_WORD = re.compile(r"[^\W_]+")


def for_index(text: str) -> str:
    """Return a text with its runs of CJK as pairs, the last character of a run also by itself.

    So each character is the beginning of a token.
    """
    return _split_runs(text, lambda run: [*_pairs(run), run[-1]] if len(run) > 1 else [run])


def words(question: str) -> list[str]:
    """Return the words of a question, each once whatever its case, a run of CJK as pairs."""
    return list(
        {word.lower(): word for word in _WORD.findall(_split_runs(question, _pairs))}.values()
    )


def is_cjk(word: str) -> bool:
    """Tell whether a word begins with a character of CJK."""
    return _RUN_OF_CJK.match(word) is not None


def _split_runs(text: str, split: Callable[[str], list[str]]) -> str:
    # What looks alike is alike: full and half width, composed and decomposed.
    alike = unicodedata.normalize("NFKC", text)
    return _RUN_OF_CJK.sub(lambda run: f" {' '.join(split(run[0]))} ", alike)


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
