"""Writes the files that are derived from the catalogue of operations, names and help texts.

Programs that do not load the catalogue read its names from a module: the MCP server, before it
loads pydantic, and type checkers. The help of the commands goes into its page.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill, indent

import write_help

import mq9
from langchain_mq9.tools import TOOLS
from mq9.operations.catalog import ALL

ROOT = Path(__file__).parents[1]

_LISTING = '''\
"""The names of all operations, in the order of the catalogue. Written by ``make generated``."""

NAMES = (
{names})
READ_ONLY = frozenset(
    (
{read_only}    )
)
'''
_STUB = '''\
"""The tool classes, one for each operation. Written by ``make generated``."""

from typing import Unpack

from langchain_mq9.session import Session, SessionOptions
from langchain_mq9.tool import Mq9Tool

__all__ = [
{names}]

TOOLS: tuple[type[Mq9Tool], ...]
'''
_CLASS = '''
class {name}(Mq9Tool):
    """{title}

{description}
    """

    def __init__(
        self, *, session: Session | None = None, **options: Unpack[SessionOptions]
    ) -> None: ...
'''
_VERSION = "\n__version__: str\n"


def listing() -> str:
    """Return the source of the module of the operations' names."""
    return _LISTING.format(
        names=_quoted(4, ALL),
        read_only=_quoted(8, [name for name, one in ALL.items() if one.read_only]),
    )


def stub() -> str:
    """Return the types of the tool classes for LangChain."""
    text = _STUB.format(names=_quoted(4, sorted(kind.__name__ for kind in TOOLS)))
    for kind in TOOLS:
        title, _, description = (kind.__doc__ or "").partition("\n\n")
        wrapped = indent(fill(description, 90), "    ")
        text += _CLASS.format(name=kind.__name__, title=title, description=wrapped)
    return text


def public_names() -> str:
    """Return the types of what ``mq9`` offers."""
    lines = sorted(
        f"from mq9.{module} import {name} as {name}"
        for module, names in mq9._NAMES.items()  # noqa: SLF001  # written for this
        for name in names.split()
    )
    return "\n".join(['"""The public names. Written by ``make generated``."""\n', *lines, _VERSION])


def _quoted(margin: int, names: Iterable[str]) -> str:
    return "".join(f'{" " * margin}"{name}",\n' for name in names)


# Each file, and the function that returns its text.
FILES = {
    write_help.PAGE: write_help.page,
    ROOT / "mq9/operations/listing.py": listing,
    ROOT / "langchain_mq9/tools.pyi": stub,
    ROOT / "mq9/__init__.pyi": public_names,
}

if __name__ == "__main__":
    for path, text in FILES.items():
        path.write_text(text(), "utf-8")
