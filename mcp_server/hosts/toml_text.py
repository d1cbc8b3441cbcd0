"""Change one table of a TOML document, and leave the rest of it as it was.

The same functions as in ``json_text``, which see. The text of a value is JSON here, too. A table is
added at the end of the document, or in place of the lines of one with its name. Where the servers
are written in another way, such as an inline table, tomlkit makes the change.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mq9 import InvalidRequest
from mq9.address import shown

# tomlkit is loaded when it is used: no host but one needs it, and it takes time.

_STRING = r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
_STRING_OR_COMMENT = re.compile(rf"{_STRING}|#[^\n]*", re.DOTALL)
_VISIBLE = re.compile(r"[^\r\n]")
_BLANK_LINE = re.compile(r"(?<=\n)\r?\n\Z")
_HEADER = re.compile(r"^[ \t]*\[[^\n]*", re.MULTILINE)


def parse(text: str) -> Any:
    """Read a document."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not TOML: {error}") from None


def find(text: str, path: Sequence[str]) -> str | None:
    """Return an entry's value as JSON; None where there is no such entry."""
    parent = _parent(parse(text), path)
    return None if parent is None or path[-1] not in parent else _json(parent[path[-1]])


def put(text: str, path: Sequence[str], value: Mapping[str, Any] | list[Any] | str) -> str:
    """Return the document with an entry set; text is JSON."""
    new = json.loads(value) if isinstance(value, str) else value
    wanted = parse(text)
    node = wanted
    for name in path[:-1]:
        node = _table(node, name) if name in node else node.setdefault(name, {})
    node[path[-1]] = new
    block = _edited("", path, new).replace("\n", "\r\n" if "\r\n" in text else "\n")
    lines = _lines_of(text, path)
    if lines is not None:
        changed = text[: lines.start] + block + text[lines.stop :]
    else:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        changed = text + gap + block
    if not _means(changed, wanted, path):
        changed = _edited(text, path, new)
    return _checked(changed, wanted, path)


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry."""
    wanted = parse(text)
    parent = _parent(wanted, path)
    if parent is None or path[-1] not in parent:
        return text
    del parent[path[-1]]
    lines = _lines_of(text, path)
    if lines is None:
        return _checked(_edited(text, path, None), wanted, path)
    before, after = text[: lines.start], text[lines.stop :]
    if not after.strip():
        before = _BLANK_LINE.sub("", before)
    return _checked(before + after, wanted, path)


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the table at a path is there and empty; by default the whole document."""
    if not path:
        return not text.strip()
    parent = _parent(parse(text), path)
    return parent is not None and path[-1] in parent and not parent[path[-1]]


def _lines_of(text: str, path: Sequence[str]) -> slice | None:
    """Return where the lines of a table and its subtables are; None where that is no one place.

    Comments and blank lines behind the last of them are not among them.
    """
    bare = _STRING_OR_COMMENT.sub(_masked, text)
    headers = [
        (found.start(), _names(text[found.start() : found.end()].strip()))
        for found in _HEADER.finditer(bare)
        if bare.count("[", 0, found.start()) == bare.count("]", 0, found.start())
    ]
    own = [at for at, (_, names) in enumerate(headers) if names[: len(path)] == list(path)]
    if not own or own != list(range(own[0], own[-1] + 1)):
        return None
    begin = headers[own[0]][0]
    following = headers[own[-1] + 1][0] if own[-1] + 1 < len(headers) else len(text)
    line = text.find("\n", begin + len(bare[begin:following].rstrip()))
    return slice(begin, len(text) if line < 0 else line + 1)


def _masked(found: re.Match[str]) -> str:
    return _VISIBLE.sub(" " if found[0].startswith("#") else "x", found[0])


def _names(header: str) -> list[str]:
    """Return the names in a header, such as ``[mcp_servers."mq9"]``."""
    names: list[str] = []
    node: Any = parse(header)
    while node:
        if isinstance(node, list):
            [node] = node
            continue
        [(name, node)] = node.items()
        names.append(name)
    return names


def _edited(text: str, path: Sequence[str], new: Any) -> str:
    """Return the document as tomlkit changes it; None takes the entry out."""
    import tomlkit  # noqa: PLC0415

    try:
        document = tomlkit.parse(text)
    except (tomlkit.exceptions.TOMLKitError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"not TOML: {error}") from None
    node: MutableMapping[str, Any] = document
    for name in path[:-1]:
        if name not in node:
            node[name] = tomlkit.table(is_super_table=True)
        node = _table(node, name)
    if new is None:
        del node[path[-1]]
    else:
        node[path[-1]] = _item(new, inline=isinstance(node, tomlkit.items.InlineTable))
    return tomlkit.dumps(document)


def _checked(text: str, wanted: Mapping[str, Any], path: Sequence[str]) -> str:
    if not _means(text, wanted, path):
        raise InvalidRequest("its servers are written in a way that cannot be changed safely")
    return text


def _means(text: str, wanted: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Tell whether a document says what it should; a table without entries may be missing."""
    try:
        found = parse(text)
    except InvalidRequest:
        return False
    said, meant = (
        json.dumps(
            {name: one for name, one in document.items() if name != path[0] or one},
            sort_keys=True,
            default=str,
        )
        for document in (found, wanted)
    )
    return said == meant


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _parent(
    document: MutableMapping[str, Any], path: Sequence[str]
) -> MutableMapping[str, Any] | None:
    node = document
    for name in path[:-1]:
        if name not in node:
            return None
        node = _table(node, name)
    return node


def _table(node: MutableMapping[str, Any], name: str) -> MutableMapping[str, Any]:
    found = node[name]
    if not isinstance(found, MutableMapping):
        raise InvalidRequest(f"{shown(name)} is not a table")
    return found


def _item(value: Any, *, inline: bool) -> Any:
    import tomlkit  # noqa: PLC0415

    if not isinstance(value, Mapping):
        return value
    table = tomlkit.inline_table() if inline else tomlkit.table()
    for name, one in value.items():
        table[name] = _item(one, inline=True)
    return table
