"""The snippets of a page whose layout was lost: fences and indentation are gone.

What follows a snippet is glued to its last line, as in `print(x)Next heading`.
"""

import re

# A bracket followed at once by a letter or by a comment of another language ends a snippet.
_END = re.compile(r"(?<=[)])(?=[A-Za-z]|//)")
_OPENS = re.compile(r"(from \w+ import|# |\w+ = await client\.)")
_SHELL = re.compile(r"^nats (?:\\\n|[^'\n]|'[^']*')*", re.MULTILINE)
_DEF = re.compile(r"(?:async )?def (\w+)")


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
