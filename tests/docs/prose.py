"""Find what makes a Markdown page hard to read, as far as a program can see it.

The rules are those of plain technical English: short sentences and paragraphs, headings that name
a task, and the field's words in place of our own. ``python tests/docs/prose.py FILE...`` prints
each finding.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_SENTENCE_WORDS = 30
MAX_PARAGRAPH_WORDS = 90

# Phrases with no honest use in this documentation, each with the words to write instead.
PHRASES = {
    r"whoever|whomever": "the sender, the caller, the user",
    r"what comes of (?:it|them|that|this)|what it comes to": "the result, the reply",
    r"(?:is|are|be|was|were) told|tells of": "reports, returns, logs, shows; who gets it",
    r"too(?=[.;)])": "also, before the verb",
    r"made of its name": "derived from its name",
    r"(?:made|begun|read|written|asked|set up|built|started) anew|anew": "again, recreated",
    r"at the most": "at most",
    r"for so (?:many|long)": "for N seconds",
    r"fallen due|falls due|fall due": "is due",
    r"besides?": "next to, in addition to",
    r"meanwhile": "in the meantime",
    r"moreover": "also",
    r"whatever": "any, every, even if",
    r"whom": "the sender, the caller, the user",
    r"all the same": "still",
    r"for good": "permanently",
    r"is mended|are mended|mends": "is fixed, repairs",
    r"let in|lets? (?:one|any)\w*(?: \w+)? in": "authenticated, accepted",
    r"it is no error": "say what happens instead",
    r"those who ask|who asks": "the caller",
    r"harmless to repeat": "idempotent",
    r"nobody in particular": "anonymous",
    r"superuser": "root",
    r"processor time": "CPU time",
}
_PHRASES = {
    re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE): better for phrase, better in PHRASES.items()
}
_AS_WORDS = {"code_inline": "Code", "softbreak": " "}
_RIDDLE = re.compile(r"(?:What|Who|Whoever|Whose|Whom|Where)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z0-9\"(])")


def findings(markdown: str) -> Iterator[str]:
    """Yield one line, with its line number, for each breach of a rule in ``markdown``."""
    for line, kind, text in _blocks(MarkdownIt("commonmark").enable("table").parse(markdown)):
        for finding in _in_block(kind, text):
            yield f"{line}: {finding}"


def _blocks(tokens: list[Token]) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind of the enclosing block and text of each run of prose; code is one word."""
    opened: list[str] = []
    line = 0
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        if token.nesting == 1:
            opened.append(token.type.removesuffix("_open"))
        elif token.nesting == -1:
            opened.pop()
        elif token.type == "inline":
            parts = [part for part in token.children or [] if part.type != "image"]
            words = (_AS_WORDS.get(part.type, part.content) for part in parts)
            yield line, opened[-1], "".join(words)


def _in_block(kind: str, text: str) -> Iterator[str]:
    if kind == "heading" and _RIDDLE.match(text) and not text.endswith("?"):
        yield f"a heading begins with {_first_word(text)!r}: name the task or the answer: {text!r}"
    for pattern, better in _PHRASES.items():
        if found := pattern.search(text):
            yield f"{found[0]!r}: write {better}: {_shown(text, found.start())}"
    if kind == "paragraph":
        if (count := len(text.split())) > MAX_PARAGRAPH_WORDS:
            yield f"a paragraph of {count} words: {_shown(text)}"
        for sentence in _SENTENCE_END.split(text):
            if (count := len(sentence.split())) > MAX_SENTENCE_WORDS:
                yield f"a sentence of {count} words: {_shown(sentence)}"
            if _RIDDLE.match(sentence) and not sentence.endswith("?"):
                yield f"a sentence begins with {_first_word(sentence)!r}: {_shown(sentence)}"


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0]


def _shown(text: str, at: int = 0) -> str:
    return repr(text[max(0, at - 30) :][:80])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.writelines(f"{name}:{found}\n" for found in findings(Path(name).read_text()))
