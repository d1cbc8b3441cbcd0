"""Change one entry of a JSON document, and leave every other character as it was.

Comments and trailing commas, which many programs allow in their settings, are read and kept. An
entry is named by its path: the name of a member, then of a member of that, and so on. What is new
is written as the document is: with its indentation and line ends, or on one line where the rest of
the object stands on one. A document of nothing but blanks and comments counts as an empty object.
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
_STRING = r'"(?:\\.|[^"\\\r\n])*"'
_STRING_OR_COMMENT = re.compile(rf"{_STRING}|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(rf"{_STRING}|,(?=[ \t\r\n]*[}}\]])")
_NO_LINE_END = re.compile(r"[^\r\n]")
_INDENT = "  "  # where the document has none to go by
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class JsonMember:
    """The place of an object's member, as offsets in characters."""

    name: str
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Object:
    """The place of an object, from brace to brace, and its members."""

    start: int
    members: Sequence[JsonMember]
    end: int

    def index(self, name: str) -> int | None:
        """Return which of the members has a name; None where none has."""
        names = [one.name for one in self.members]
        return names.index(name) if name in names else None


@dataclass(frozen=True, slots=True)
class Source:
    """A document in three spellings, in which every character has the same place."""

    text: str
    bare: str  # its comments are blanks
    strict: str  # its trailing commas are blanks, too

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a document, which need not be JSON."""
        bare = _STRING_OR_COMMENT.sub(_without_comment, text)
        return cls(text, bare, _STRING_OR_LAST_COMMA.sub(_without_comma, bare))

    @property
    def is_blank(self) -> bool:
        """True for nothing but blanks and comments."""
        return not self.bare.strip(" \t\r\n")

    def parsed(self) -> Any:
        """Return what it means."""
        if self.is_blank:
            return {}
        try:
            return json.loads(
                self.strict, object_pairs_hook=_without_twins, parse_constant=_no_constant
            )
        except json.JSONDecodeError as error:
            raise InvalidRequest(
                f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
            ) from None
        except InvalidRequest:
            raise
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond Python's limits
            raise InvalidRequest(f"more than can be read as JSON ({error})") from None

    def root(self) -> Object:
        """Return the object that it is."""
        if not isinstance(self.parsed(), dict):
            raise InvalidRequest("not an object as a whole")
        return self._object(_after_blank(self.strict, 0))

    def inside(self, member: JsonMember) -> Object:
        """Return the object that is a member's value."""
        if self.strict[member.value] != "{":
            raise InvalidRequest(f"{shown(member.name)} is not an object")
        return self._object(member.value)

    def parent(self, path: Sequence[str]) -> Object | None:
        """Return the object that has, or could have, the entry; None where it is missing itself."""
        if self.is_blank:
            return None
        node = self.root()
        for name in path[:-1]:
            index = node.index(name)
            if index is None:
                return None
            node = self.inside(node.members[index])
        return node

    def end_of_blank(self, at: int, start: int) -> int:
        """Return where the blanks begin that end at a place, not before another."""
        return start + len(self.text[start:at].rstrip(" \t\r\n"))

    @property
    def line_end(self) -> str:
        """The end of its lines."""
        return "\r\n" if "\r\n" in self.text else "\n"

    @property
    def indent(self) -> str:
        """The indentation of each level."""
        found = self.indent_of_members(self._object(_after_blank(self.strict, 0)))
        return _INDENT if found is None else found

    def indent_of_members(self, node: Object) -> str | None:
        """Return what members are indented by; None where they begin on the brace's line."""
        if not node.members:
            return None
        start = node.members[0].start
        if "\n" not in self.text[node.start + 1 : start]:
            return None
        return self.indent_of_line(start)

    def indent_of_line(self, at: int) -> str:
        """Return what the line is indented by that has a place in it."""
        begin = self.text.rfind("\n", 0, at) + 1
        return self.text[begin : _after_blank(self.text, begin)]

    def _object(self, start: int) -> Object:
        """Find the members of an object in what is known to be JSON."""
        strict = self.strict
        members = []
        at = _after_blank(strict, start + 1)
        while strict[at] != "}":
            if strict[at] == ",":
                at = _after_blank(strict, at + 1)
            name, end = _decoder.raw_decode(strict, at)
            colon = _after_blank(strict, end)
            value = _after_blank(strict, colon + 1)
            _, end = _decoder.raw_decode(strict, value)
            members.append(JsonMember(name, at, value, end))
            at = _after_blank(strict, end)
        return Object(start, members, at)


def _without_comment(found: re.Match[str]) -> str:
    text = found.group()
    return text if text.startswith('"') else _NO_LINE_END.sub(" ", text)


def _without_comma(found: re.Match[str]) -> str:
    if found.group() != ",":
        return found.group()
    at = found.start() - 1
    while at >= 0 and found.string[at] in " \t\r\n":
        at -= 1
    return "," if at < 0 or found.string[at] in "{[,:" else " "


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"the name {shown(name)} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"not JSON: {name} is not a JSON value")


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def is_strict(text: str) -> bool:
    """Tell whether a document has neither comments nor trailing commas."""
    return Source.of(text).strict == text


def parse(text: str) -> Any:
    """Read a document."""
    return Source.of(text).parsed()


def find(text: str, path: Sequence[str]) -> str | None:
    """Return the text of an entry's value; None where there is no such entry."""
    parent = Source.of(text).parent(path)
    index = None if parent is None else parent.index(path[-1])
    if parent is None or index is None:
        return None
    member = parent.members[index]
    return text[member.value : member.end]


def put(text: str, path: Sequence[str], value: Mapping[str, Any] | list[Any] | str) -> str:
    """Return the document with an entry set; text is JSON, and stands just as it is."""
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
        new = value
        if not isinstance(new, str):
            is_inline = source.indent_of_members(node) is None
            new = _written(
                source, value, None if is_inline else source.indent_of_line(member.start)
            )
        return source.text[: member.value] + new + source.text[member.end :]
    raise InvalidRequest("path: it is empty")


def drop(text: str, path: Sequence[str]) -> str:
    """Return the document without an entry; as it is where there is no such entry."""
    source = Source.of(text)
    parent = source.parent(path)
    index = None if parent is None else parent.index(path[-1])
    if parent is None or index is None:
        return text
    members = parent.members
    member = members[index]
    following = members[index + 1].start if index + 1 < len(members) else parent.end
    comma = source.bare.find(",", member.end, following)
    if index == 0:
        return _without_first(source, parent, following, comma)
    before = members[index - 1].end
    begin = source.end_of_blank(member.start, before)
    if comma >= 0:
        return text[:begin] + text[comma + 1 :]
    own_comma = source.bare.find(",", before, member.start)
    kept = text[own_comma + 1 : begin]
    rest = text[member.end :]
    if "//" in kept and "\n" not in text[member.end : parent.end]:
        rest = source.line_end + rest  # a comment ends with its line
    return text[:own_comma] + kept + rest


def is_empty(text: str, path: Sequence[str] = ()) -> bool:
    """Tell whether the object at a path is there and empty, without comments."""
    value = find(text, path) if path else text
    if value is None:
        return False
    return not value.strip() or (is_strict(value) and parse(value) == {})


def _nested(path: Sequence[str], value: Mapping[str, Any] | list[Any] | str) -> Any:
    inner = parse(value) if isinstance(value, str) else value
    for name in reversed(path):
        inner = {name: inner}
    return inner


def _added(source: Source, node: Object, name: str, value: Any) -> str:
    """Write a new member at the end of an object."""
    text = source.text
    if node.members:
        last = node.members[-1].end
        comma = source.bare.find(",", last, node.end)
        indent = source.indent_of_members(node)
        between = " " if indent is None else source.line_end + indent
        member = _member(source, name, value, indent)
        if comma >= 0:
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


def _without_first(source: Source, parent: Object, following: int, comma: int) -> str:
    text = source.text
    member = parent.members[0]
    end = member.end if comma < 0 else comma + 1
    if len(parent.members) > 1:
        return text[: member.start] + text[_after_blank(text, end) :]
    begin = source.end_of_blank(member.start, parent.start + 1)
    has_comments = begin > parent.start + 1 or bool(text[end:following].strip())
    return text[:begin] + text[end if has_comments else following :]


def _member(source: Source, name: str, value: Any, indent: str | None) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: {_written(source, value, indent)}"


def _written(source: Source, value: Any, indent: str | None) -> str:
    """Write a value for a line of that indentation; on one line where it is None."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=source.indent)
    return lines.replace("\n", source.line_end + indent)
