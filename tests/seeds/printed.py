"""The snippets of a page whose layout was lost: fences and indentation are gone.

What follows a snippet is glued to its last line, as in `print(x)Next heading`.
"""

import itertools
import re
from typing import NamedTuple

# A bracket followed at once by a letter or by a comment of another language ends a snippet.
_END = re.compile(r"(?<=[)])(?=[A-Za-z]|//)")
_OPENS = re.compile(r"(from \w+ import|# |\w+ = await client\.)")
_SHELL = re.compile(r"^nats (?:\\\n|[^'\n]|'[^']*')*", re.MULTILINE)
_DEF = re.compile(r"(?:async )?def (\w+)")


def fenced(text, language):
    """Return the blocks of a language on a page that has kept its fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def marked_python(text):
    """Return what stands after the word `python` at the end of a line, each up to its end."""
    return [_up_to_the_end(after.splitlines()) for after in re.split(r"python\n", text)[1:]]


def unmarked_python(text):
    """Return what begins like Python, each up to its end, without what other languages print."""
    lines = text.splitlines()
    snippets, end = [], 0
    for number, line in enumerate(lines):
        if number >= end and _OPENS.match(line):
            code = _up_to_the_end(lines[number:])
            if "client." in code or "toolkit" in code:
                snippets.append(code)
                end = number + code.count("\n")
    return snippets


def _up_to_the_end(lines):
    """Return the lines of one snippet, indented again."""
    snippet = []
    for line in lines:
        if line.startswith(("nats ", "pip ")):
            return ""
        code, *glued = _END.split(line, maxsplit=1)
        snippet.append(code)
        if glued:
            break
    return indented(snippet)


def shell(text):
    """Return the lines of the `nats` command, each with its continuations."""
    return [re.sub(r"'[A-Z][^'\n]*\Z", "'", found) for found in _SHELL.findall(text)]


def indented(lines):
    """Give lines of Python the indentation that they lost.

    A line that ends in a colon opens a block. A function ends before a statement that names it, and
    before the next function if no other block is open in it; `except` ends its `try`. Any other
    block lasts as long as what it is in.
    """
    blocks, written = [], []  # blocks: what opened each, or the name of the function
    for statement in _statements(lines):
        first = statement[0]
        named = _DEF.match(first)
        if first.startswith("except"):
            del blocks[len(blocks) - 1 - blocks[::-1].index("try:") :]
        elif named and blocks and blocks[-1].isidentifier():
            blocks.pop()
        else:
            words = set(re.findall(r"\w+", " ".join(line.partition("#")[0] for line in statement)))
            for depth, block in enumerate(blocks):
                if block in words:
                    del blocks[depth:]
                    break
        written += ["    " * len(blocks) + line for line in statement]
        if first.endswith(":"):
            blocks.append(named[1] if named else first)
    return "\n".join(written) + "\n"


def _statements(lines):
    """Yield lines that belong together because a bracket is open."""
    open_brackets, statement = 0, []
    for line in lines:
        statement.append(line)
        code = line.partition(" #")[0]
        open_brackets += sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
        if open_brackets <= 0:
            yield statement
            open_brackets, statement = 0, []
    if statement:
        yield statement


_TOP = re.compile(r"(?:async )?def \w+\(\):|asyncio\.run\(")
_LOOP = re.compile(r"for (\w+) in ")
_BOUND = re.compile(r"(\w+) = ")


def program(text):
    """Return the lines from the first import to the end as a program, indented again.

    A function without parameters stands at the top, and what follows is in it. A function with
    parameters is a handler: it ends before the next one and before a statement that names any. A
    loop ends before a statement that uses no name that was bound in it.
    """
    lines = text[re.search(r"^import ", text, re.MULTILINE).start() :].splitlines()
    blocks, handlers, written = [], set(), []
    for statement in _statements(lines):
        first = statement[0]
        words = set(re.findall(r"\w+", " ".join(statement)))
        handler = None if _TOP.match(first) else _DEF.match(first)
        if _TOP.match(first):
            blocks, handlers = [], set()
        elif not first.startswith("#"):
            if handler or words & handlers:
                blocks = list(itertools.takewhile(lambda block: block.kind != "handler", blocks))
            while blocks and blocks[-1].is_over(words):
                blocks.pop()
        written += ["    " * len(blocks) + line for line in statement]
        bound = {found[1] for found in (_LOOP.match(first), _BOUND.match(first), handler) if found}
        if handler:
            handlers.add(handler[1])
        for block in blocks:
            block.bound.update(bound)
        if first.endswith(":"):
            kind = "handler" if handler else "loop" if _LOOP.match(first) else "other"
            blocks.append(_Block(kind, bound))
    return "\n".join(written) + "\n"


class _Block(NamedTuple):
    """What is open at a place of a program, and the names that were bound in it."""

    kind: str
    bound: set

    def is_over(self, words):
        return self.kind == "loop" and not words & self.bound
