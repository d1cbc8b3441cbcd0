"""Change one entry of a list of servers in a YAML document, and leave the rest of it as it was.

The same functions as in ``json_text``, which see. The servers are a list whose entries bear their
names; an entry of ours is one line of it, in JSON, which YAML contains. Entries that are written
otherwise are read, and not changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mq9 import InvalidRequest
from mq9.address import shown

# PyYAML is loaded when it is used: no host but one needs it, and it takes time.

_NO_ENTRIES = re.compile(
    r"(?:[ \t]*(?:\[[ \t]*\]|~|null))?(?P<rest>[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z))"
)
_UNSAFE = "its servers are written in a way that cannot be changed safely"
_FIRST_ENTRY = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?\r?\n)*(?P<indent> *)- ")


def parse(text: str) -> Any:
    """Read a document; lists of entries that have names become objects."""
    import yaml  # noqa: PLC0415

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"not YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidRequest("not an object as a whole")
    return {name: _by_name(one) for name, one in document.items()}


def find(text: str, path: Sequence[str]) -> str | None:
    """Return an entry's value as JSON; None where there is no such entry."""
    node = parse(text)
    for name in path:
        if not isinstance(node, Mapping):
            raise InvalidRequest(f"{shown(path[0])} is not a list of entries that have names")
        node = node.get(name)
        if node is None:
            return None
    return json.dumps(node, ensure_ascii=False, default=str)


def put(text: str, path: Sequence[str], value: Mapping[str, Any] | list[Any] | str) -> str:
    """Return the document with an entry set; text is JSON."""
    servers, name = path
    new = json.loads(value) if isinstance(value, str) else value
    if not isinstance(new, Mapping):
        raise InvalidRequest(f"{shown(name)} is to be an object")
    line_end = "\r\n" if "\r\n" in text else "\n"
    line = f"- {json.dumps({'name': name, **new}, ensure_ascii=False)}{line_end}"
    own = _line_of(text, name)
    key = re.search(rf"^{servers}:", text, re.MULTILINE)
    if own is not None:
        changed = text[: own.start("entry")] + line + text[own.end() :]
    elif find(text, path) is not None:
        raise InvalidRequest(f"{shown(name)} is not on a line of its own")
    elif key is None:
        gap = line_end if text and not text.endswith("\n") else ""
        changed = f"{text}{gap}{servers}:{line_end}  {line}"
    else:
        changed = _with_first(text, key.end(), line, line_end)
    if find(changed, path) != json.dumps(new, ensure_ascii=False):
        raise InvalidRequest(_UNSAFE)
    return changed


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry."""
    if len(path) == 1:
        key = re.search(rf"^{path[0]}:[ \t]*\r?\n?", text, re.MULTILINE)
        return text if key is None else text[: key.start()] + text[key.end() :]
    own = _line_of(text, path[-1])
    if own is not None:
        return text[: own.start()] + text[own.end() :]
    if find(text, path) is not None:
        raise InvalidRequest(f"{shown(path[-1])} is not on a line of its own")
    return text


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the list at a path is there and empty; by default the whole document."""
    if not path:
        return not text.strip()
    document = parse(text)
    return path[0] in document and not document[path[0]]


def _by_name(value: Any) -> Any:
    """Return a list of entries as an object; entries that only point elsewhere are left out."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return value
    return {
        name: {key: said for key, said in one.items() if key != "name"}
        for one in value
        if isinstance(name := one.get("name"), str)
    }


def _line_of(text: str, name: str) -> re.Match[str] | None:
    start = re.escape(f'- {{"name": {json.dumps(name)},')
    return re.search(rf"^ *(?P<entry>{start}[^\r\n]*\r?\n?)", text, re.MULTILINE)


def _with_first(text: str, at: int, line: str, line_end: str) -> str:
    """Add a line behind the name of the list, which may have entries already."""
    found = _NO_ENTRIES.match(text, at)
    if found is None:
        raise InvalidRequest(_UNSAFE)
    behind = text[found.end() :]
    first = _FIRST_ENTRY.match(behind)
    indent = "  " if first is None else first["indent"]
    gap = "" if found["rest"].endswith("\n") else line_end
    return f"{text[:at]}{found['rest']}{gap}{indent}{line}{behind}"
