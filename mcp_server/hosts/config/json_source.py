"""A JSON document as it stands, with comments and trailing commas, and where its members are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
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
class Member:
    """Where a member of an object stands, as offsets in characters.

    Attributes:
        name: Its name.
        start: Where the name's first quote is.
        value: Where its value begins.
        end: Where its value has ended.
    """

    name: str
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Object:
    """Where an object stands, from its opening brace to its closing one, and what is in it."""

    start: int
    members: Sequence[Member]
    end: int

    def index(self, name: str) -> int | None:
        """Return which of the members has a name; None where none has."""
        names = [one.name for one in self.members]
        return names.index(name) if name in names else None


@dataclass(frozen=True, slots=True)
class Source:
    """A document in three spellings, in which every character has the same place.

    Attributes:
        text: As it stands.
        bare: Its comments are blanks.
        strict: Its trailing commas are blanks, too.
    """

    text: str
    bare: str
    strict: str

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a document, which need not be JSON."""
        bare = _STRING_OR_COMMENT.sub(_without_comment, text)
        return cls(text, bare, _STRING_OR_LAST_COMMA.sub(_without_comma, bare))

    @property
    def is_blank(self) -> bool:
        """Whether it is nothing but blanks and comments."""
        return not self.bare.strip(" \t\r\n")

    @property
    def is_strict(self) -> bool:
        """Whether it has neither comments nor trailing commas."""
        return self.strict == self.text

    def parsed(self) -> Any:
        """Return what it means.

        Raises:
            InvalidRequest: It is not JSON, or a name stands twice in one object.
        """
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
        """Return the object that it is.

        Raises:
            InvalidRequest: It is not JSON, or not an object.
        """
        if not isinstance(self.parsed(), dict):
            raise InvalidRequest("not an object as a whole")
        return self._object(_after_blank(self.strict, 0))

    def inside(self, member: Member) -> Object:
        """Return the object that is a member's value.

        Raises:
            InvalidRequest: The value is none.
        """
        if self.strict[member.value] != "{":
            raise InvalidRequest(f"{shown(member.name)} is not an object")
        return self._object(member.value)

    def parent(self, path: Sequence[str]) -> Object | None:
        """Return the object that has, or could have, the entry; None where it is missing itself.

        Raises:
            InvalidRequest: The document is not JSON, or not an object as far as the path leads.
        """
        if self.is_blank:
            return None
        node = self.root()
        for name in path[:-1]:
            index = node.index(name)
            if index is None:
                return None
            node = self.inside(node.members[index])
        return node

    def comma(self, start: int, end: int) -> int | None:
        """Return where the comma is between two places that have nothing else between them."""
        at = self.bare.find(",", start, end)
        return None if at < 0 else at

    def after_blank(self, at: int) -> int:
        """Return where the blanks have ended that begin at a place; comments are no blanks."""
        return _after_blank(self.text, at)

    def end_of_blank(self, at: int, start: int) -> int:
        """Return where the blanks begin that end at a place, not before another."""
        return start + len(self.text[start:at].rstrip(" \t\r\n"))

    @property
    def line_end(self) -> str:
        """What its lines end with."""
        return "\r\n" if "\r\n" in self.text else "\n"

    @property
    def indent(self) -> str:
        """What each level of it is indented by."""
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
        return self.text[begin : self.after_blank(begin)]

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
            members.append(Member(name, at, value, end))
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
    raise InvalidRequest(f"not JSON: {name} is no value of it")


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()
