"""Change one entry of a JSON document, and leave every other character as it was.

An entry is named by its path: the name of a member, then of a member of that, and so on. What is
new is written as the document is: with its indentation and line ends, or on one line where the rest
of the object stands on one. A document of nothing but blanks counts as an empty object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mq9 import InvalidRequest
from mq9.address import shown

_BLANK = re.compile(r"[ \t\r\n]*")
_INDENT = "  "  # where the document has none to go by
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a member stands: from its name's first quote, through its value's begin, to its end."""

    name: str
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Object:
    """Where an object stands, from one brace to the other, and what is in it."""

    start: int
    members: Sequence[_Member]
    end: int

    def index(self, name: str) -> int | None:
        names = [one.name for one in self.members]
        return names.index(name) if name in names else None


def parse(text: str) -> Any:
    """Read a document by the letter of the standard, which knows no comments.

    Raises:
        InvalidRequest: It is not JSON, or a name stands twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            "not strict JSON, which has no comments and no trailing commas: line "
            f"{error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except InvalidRequest:
        raise
    except (ValueError, RecursionError) as error:  # numbers and nesting beyond Python's limits
        raise InvalidRequest(f"more than can be read as JSON ({error})") from None


def find(text: str, path: Sequence[str]) -> str | None:
    """Return the text of an entry's value; None where there is no such entry.

    Raises:
        InvalidRequest: The document is not strict JSON, or not an object as far as the path leads.
    """
    parent = _parent(text, path)
    index = None if parent is None else parent.index(path[-1])
    if parent is None or index is None:
        return None
    member = parent.members[index]
    return text[member.value : member.end]


def put(text: str, path: Sequence[str], value: Mapping[str, Any] | str) -> str:
    """Return the document with an entry set.

    Args:
        text: The document.
        path: Names the entry. What is missing on the way to it is made.
        value: What it is to be. Text is JSON, and replaces a value just as it stands.

    Raises:
        InvalidRequest: As in ``find``.
    """
    if _is_blank(text):
        text = "{}\n"
    node = _root(text)
    for depth, name in enumerate(path):
        index = node.index(name)
        if index is None:
            return _added(text, node, name, _nested(path[depth + 1 :], value))
        if depth < len(path) - 1:
            node = _object_in(text, node.members[index])
            continue
        member = node.members[index]
        new = value if isinstance(value, str) else _replacement(text, node, member, value)
        return text[: member.value] + new + text[member.end :]
    raise InvalidRequest("path: it is empty")


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry.

    Raises:
        InvalidRequest: As in ``find``.
    """
    parent = _parent(text, path)
    index = None if parent is None else parent.index(path[-1])
    if parent is None or index is None:
        return text
    members = parent.members
    if len(members) == 1:
        return text[: parent.start + 1] + text[parent.end :]
    if index == 0:
        return text[: members[0].start] + text[members[1].start :]
    return text[: members[index - 1].end] + text[members[index].end :]


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the object at a path is there and empty; by default the whole document.

    Raises:
        InvalidRequest: As in ``find``.
    """
    value = find(text, path) if path else text
    return value is not None and (_is_blank(value) or parse(value) == {})


def _is_blank(text: str) -> bool:
    return _after_blank(text, 0) == len(text)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"the name {shown(name)} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"not strict JSON: {name} is no value of it")


def _root(text: str) -> _Object:
    if not isinstance(parse(text), dict):
        raise InvalidRequest("not an object as a whole")
    return _object(text, _after_blank(text, 0))


def _parent(text: str, path: Sequence[str]) -> _Object | None:
    """Return the object that has, or could have, the entry; None where it is missing itself."""
    if _is_blank(text):
        return None
    node = _root(text)
    for name in path[:-1]:
        index = node.index(name)
        if index is None:
            return None
        node = _object_in(text, node.members[index])
    return node


def _object_in(text: str, member: _Member) -> _Object:
    if text[member.value] != "{":
        raise InvalidRequest(f"{shown(member.name)} is not an object")
    return _object(text, member.value)


def _object(text: str, start: int) -> _Object:
    """Find the members of the object that begins at ``start``, in text that is known to be JSON."""
    members = []
    at = _after_blank(text, start + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _after_blank(text, at + 1)
        name, end = _decoder.raw_decode(text, at)
        value = _after_blank(text, _after_blank(text, end) + 1)  # the colon is the one between
        _, end = _decoder.raw_decode(text, value)
        members.append(_Member(name, at, value, end))
        at = _after_blank(text, end)
    return _Object(start, members, at)


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _nested(path: Sequence[str], value: Mapping[str, Any] | str) -> Any:
    inner = parse(value) if isinstance(value, str) else value
    for name in reversed(path):
        inner = {name: inner}
    return inner


def _added(text: str, node: _Object, name: str, value: Any) -> str:
    """Write a new member at the end of an object."""
    if node.members:
        last = node.members[-1].end
        indent = _indent_of_members(text, node)
        between = " " if indent is None else _line_end(text) + indent
        return f"{text[:last]},{between}{_member(text, name, value, indent)}{text[last:]}"
    head, tail = text[: node.start + 1], text[node.end :]
    if "\n" not in text.strip() and text[: node.start].strip():  # all of it is on one line
        return f"{head}{_member(text, name, value, None)}{tail}"
    outer = _indent_of_line(text, node.start)
    indent = outer + _unit(text)
    line_end = _line_end(text)
    member = _member(text, name, value, indent)
    return f"{head}{line_end}{indent}{member}{line_end}{outer}{tail}"


def _member(text: str, name: str, value: Any, indent: str | None) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: {_written(text, value, indent)}"


def _replacement(text: str, node: _Object, member: _Member, value: Any) -> str:
    if _indent_of_members(text, node) is None:
        return _written(text, value, None)
    return _written(text, value, _indent_of_line(text, member.start))


def _written(text: str, value: Any, indent: str | None) -> str:
    """Write a value for a line of that indentation; on one line where it is None."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text))
    return lines.replace("\n", _line_end(text) + indent)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _unit(text: str) -> str:
    """Return what each level of the document is indented by."""
    indent = _indent_of_members(text, _object(text, _after_blank(text, 0)))
    return _INDENT if indent is None else indent


def _indent_of_members(text: str, node: _Object) -> str | None:
    """Return what the members are indented by; None where they begin on the brace's line."""
    if not node.members:
        return None
    _, line_end, indent = text[node.start + 1 : node.members[0].start].rpartition("\n")
    return indent if line_end else None


def _indent_of_line(text: str, at: int) -> str:
    begin = text.rfind("\n", 0, at) + 1
    return text[begin : _after_blank(text, begin)]
