"""Change one table of a TOML document, and leave the rest of it as it was.

The same functions as in ``json_text``, which see. The text of a value is JSON here, too; a blank
line may be one more or less where a table was taken out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from mq9 import InvalidRequest
from mq9.address import shown

if TYPE_CHECKING:
    import tomlkit

# tomlkit is loaded when it is used: no host but one needs it, and it takes time.


def parse(text: str) -> Any:
    """Read a document."""
    return _document(text).unwrap()


def find(text: str, path: Sequence[str]) -> str | None:
    """Return an entry's value as JSON; None where there is no such entry."""
    parent = _parent(_document(text), path)
    if parent is None or path[-1] not in parent:
        return None
    value: Any = parent[path[-1]]
    return json.dumps(value.unwrap(), ensure_ascii=False, default=str)


def put(text: str, path: Sequence[str], value: Mapping[str, Any] | str) -> str:
    """Return the document with an entry set; text is JSON."""
    import tomlkit  # noqa: PLC0415

    document = _document(text)
    new = json.loads(value) if isinstance(value, str) else value
    node: MutableMapping[str, Any] = document
    for name in path[:-1]:
        if name not in node:
            node[name] = tomlkit.table(is_super_table=True)
        node = _table(node, name)
    node[path[-1]] = _item(new, inline=isinstance(node, tomlkit.items.InlineTable))
    return tomlkit.dumps(document)


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry."""
    import tomlkit  # noqa: PLC0415

    document = _document(text)
    parent = _parent(document, path)
    if parent is None or path[-1] not in parent:
        return text
    del parent[path[-1]]
    changed = tomlkit.dumps(document)
    # The blank line before what stood last is not of the document.
    return f"{changed.rstrip()}\n" if changed.strip() and text.startswith(changed) else changed


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the table at a path is there and empty; by default the whole document."""
    if not path:
        return not text.strip()
    parent = _parent(_document(text), path)
    return parent is not None and path[-1] in parent and not parent[path[-1]]


def _document(text: str) -> tomlkit.TOMLDocument:
    import tomlkit  # noqa: PLC0415

    try:
        return tomlkit.parse(text)
    except (tomlkit.exceptions.TOMLKitError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"not TOML: {error}") from None


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
