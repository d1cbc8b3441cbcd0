"""Change one entry of a JSON document, and leave every other character as it was.

Comments and trailing commas, which many programs allow in their settings, are read and kept. An
entry is named by its path: the name of a member, then of a member of that, and so on. What is new
is written as the document is: with its indentation and line ends, or on one line where the rest of
the object stands on one. A document of nothing but blanks and comments counts as an empty object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.hosts.config.json_source import Member, Object, Source
from mq9 import InvalidRequest


def is_strict(text: str) -> bool:
    """Tell whether a document has neither comments nor trailing commas."""
    return Source.of(text).is_strict


def parse(text: str) -> Any:
    """Read a document.

    Raises:
        InvalidRequest: It is not JSON, or a name stands twice in one object.
    """
    return Source.of(text).parsed()


def find(text: str, path: Sequence[str]) -> str | None:
    """Return the text of an entry's value; None where there is no such entry.

    Raises:
        InvalidRequest: The document is not JSON, or not an object as far as the path leads.
    """
    parent = Source.of(text).parent(path)
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
    source = Source.of(text)
    if source.is_blank:
        kept = f"{text.rstrip()}\n" if text.strip() else ""
        source = Source.of(kept + "{}\n")
    node = source.root()
    for depth, name in enumerate(path):
        index = node.index(name)
        if index is None:
            return _added(source, node, name, _nested(path[depth + 1 :], value))
        member = node.members[index]
        if depth < len(path) - 1:
            node = source.inside(member)
            continue
        new = value if isinstance(value, str) else _replacement(source, node, member, value)
        return source.text[: member.value] + new + source.text[member.end :]
    raise InvalidRequest("path: it is empty")


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry.

    Raises:
        InvalidRequest: As in ``find``.
    """
    source = Source.of(text)
    parent = source.parent(path)
    index = None if parent is None else parent.index(path[-1])
    if parent is None or index is None:
        return text
    members = parent.members
    member = members[index]
    following = members[index + 1].start if index + 1 < len(members) else parent.end
    comma = source.comma(member.end, following)
    if index == 0:
        return _without_first(source, parent, following, comma)
    before = members[index - 1].end
    begin = source.end_of_blank(member.start, before)
    if comma is not None:
        return text[:begin] + text[comma + 1 :]
    own_comma = source.comma(before, member.start)
    assert own_comma is not None  # noqa: S101  # it is JSON
    kept = text[own_comma + 1 : begin]
    rest = text[member.end :]
    if "//" in kept and "\n" not in text[member.end : parent.end]:
        rest = source.line_end + rest  # a comment ends with its line
    return text[:own_comma] + kept + rest


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the object at a path is there and empty; by default the whole document.

    Comments in it count as something.

    Raises:
        InvalidRequest: As in ``find``.
    """
    value = find(text, path) if path else text
    if value is None:
        return False
    return not value.strip() or (is_strict(value) and parse(value) == {})


def _nested(path: Sequence[str], value: Mapping[str, Any] | str) -> Any:
    inner = parse(value) if isinstance(value, str) else value
    for name in reversed(path):
        inner = {name: inner}
    return inner


def _added(source: Source, node: Object, name: str, value: Any) -> str:
    """Write a new member at the end of an object."""
    text = source.text
    if node.members:
        last = node.members[-1].end
        comma = source.comma(last, node.end)
        indent = source.indent_of_members(node)
        between = " " if indent is None else source.line_end + indent
        member = _member(source, name, value, indent)
        if comma is not None:
            at = _behind_comment(source, comma + 1, node.end, indent)
            return f"{text[:at]}{between}{member},{text[at:]}"
        at = _behind_comment(source, last, node.end, indent)
        return f"{text[:last]},{text[last:at]}{between}{member}{text[at:]}"
    inner = source.end_of_blank(node.end, node.start + 1)
    if "\n" not in text.strip() and text[: node.start].strip():  # all of it is on one line
        member = _member(source, name, value, None)
        return f"{text[:inner]}{member}{text[node.end :]}"
    outer = source.indent_of_line(node.start)
    indent = outer + source.indent
    member = _member(source, name, value, indent)
    head = text[:inner]  # with the comments that stand there
    line_end = source.line_end
    return f"{head}{line_end}{indent}{member}{line_end}{outer}{text[node.end :]}"


def _behind_comment(source: Source, at: int, end: int, indent: str | None) -> int:
    """Return the place behind the comment that follows on the same line, if one does."""
    if indent is None:
        return at
    line = source.bare.find("\n", at, end)
    if line < 0 or source.bare[at:line].strip():
        return at
    comment = source.end_of_blank(line, at)
    # Of a comment that goes on in the next line no part may be cut off.
    return at if source.text.count("/*", at, line) > source.text.count("*/", at, line) else comment


def _without_first(source: Source, parent: Object, following: int, comma: int | None) -> str:
    text = source.text
    member = parent.members[0]
    end = member.end if comma is None else comma + 1
    if len(parent.members) > 1:
        return text[: member.start] + text[source.after_blank(end) :]
    begin = source.end_of_blank(member.start, parent.start + 1)
    has_comments = begin > parent.start + 1 or bool(text[end:following].strip())
    return text[:begin] + text[end if has_comments else following :]


def _member(source: Source, name: str, value: Any, indent: str | None) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: {_written(source, value, indent)}"


def _replacement(source: Source, node: Object, member: Member, value: Any) -> str:
    if source.indent_of_members(node) is None:
        return _written(source, value, None)
    return _written(source, value, source.indent_of_line(member.start))


def _written(source: Source, value: Any, indent: str | None) -> str:
    """Write a value for a line of that indentation; on one line where it is None."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=source.indent)
    return lines.replace("\n", source.line_end + indent)
