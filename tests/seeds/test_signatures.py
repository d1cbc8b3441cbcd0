"""Our client takes every argument of upstream's, by its name and at its place.

The signatures are those that a page prints, which lies beside the repository. What differs is
listed here, and told to users in docs/how-to/coming-from.md.
"""

import inspect
import re
import typing
from pathlib import Path

import pytest

from mq9 import Consumer, Message, Mq9Client, Priority
from tests.seeds.printed import marked_python

ROOT = Path(__file__).parents[2]
PAGE = ROOT.parent / "shared/seeds/python-sdk.md"
TOLD = (ROOT / "docs/how-to/coming-from.md").read_text("utf-8")

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the page is not beside the repository")

_RETURNS = {
    "Consumer": Consumer,
    "None": type(None),
    "int": int,
    "list[Message]": list,
    "list[dict]": list,
    "str": str,
}
_SIGNATURE = re.compile(
    r"(?:\w+ = )?(?:await client\.)?(\w+)\(\n?(\w+: .*?|\*,\n.*?)\)"
    rf"(?: -> ({'|'.join(map(re.escape, _RETURNS))})|\s*\Z)",
    re.DOTALL,
)
# What differs: theirs, and ours.
DEFAULTS = {
    ("fetch", "deliver"): ("latest", "earliest"),
    ("consume", "deliver"): ("latest", "earliest"),
    ("consume", "max_wait_ms"): (500, 30_000),
}
RETURNS = {"ack": (type(None), list)}  # the ids that it confirmed


def printed():
    """Return what the page prints: of each signature its name, its parameters, what it returns."""
    found = {}
    for code in marked_python(PAGE.read_text("utf-8")) if PAGE.is_file() else ():
        if matched := _SIGNATURE.match(code):
            name, parameters, returns = matched.groups()
            names = {"Priority": Priority}
            exec(f"from __future__ import annotations\ndef f(\n{parameters}\n): ...", names)  # noqa: S102  # from a page that the tests are given
            found[name] = (inspect.signature(names["f"]).parameters, _RETURNS.get(returns))
    return found


PRINTED = printed()


def ours(name):
    """Return our parameters of that name, without `self`."""
    if name == "Mq9Client":
        return inspect.signature(Mq9Client).parameters
    parameters = dict(inspect.signature(getattr(Mq9Client, name)).parameters)
    del parameters["self"]
    return parameters


def positional(parameters):
    return [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]


def test_the_page_prints_twelve_signatures():
    assert len(PRINTED) == 12


@pytest.mark.parametrize("name", PRINTED)
def test_every_argument_is_taken_by_its_name_and_at_its_place(name):
    theirs, mine = PRINTED[name][0], ours(name)
    assert theirs.keys() <= mine.keys()
    assert positional(mine)[: len(positional(theirs))] == positional(theirs)
    for added in mine.keys() - theirs.keys():  # nobody has to give it
        assert mine[added].default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", PRINTED)
def test_every_default_is_the_same_or_told_to_be_another(name):
    theirs, mine = PRINTED[name][0], ours(name)
    for parameter, one in theirs.items():
        if one.default is inspect.Parameter.empty:
            continue
        expected = DEFAULTS.get((name, parameter), (one.default, one.default))
        assert (one.default, mine[parameter].default) == expected
        if expected[0] != expected[1]:
            assert f"`{name}({parameter}=" in TOLD


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_returned_can_be_used_as_theirs(name):
    theirs = PRINTED[name][1]
    if theirs is None:
        assert name == "Mq9Client"  # which makes itself
        return
    hint = typing.get_type_hints(getattr(Mq9Client, name))["return"]
    expected, mine = RETURNS.get(name, (theirs, theirs))
    assert expected is theirs
    assert issubclass(typing.get_origin(hint) or hint, mine)


def test_their_classes_have_no_attribute_that_ours_have_not():
    codes = marked_python(PAGE.read_text("utf-8"))
    priority, message, consumer = (
        next(code for code in codes if f"class {name}" in code)
        for name in ("Priority", "Message", "Consumer")
    )
    named = re.findall(r'^    ([A-Z]+) = "(\w+)"', priority, re.MULTILINE)
    assert dict(named) == {one.name: one.value for one in Priority}
    attribute = re.compile(r"^    (?:async def )?([a-z_]+)(?:: |\()", re.MULTILINE)
    for code, ours_of_it in ((message, Message), (consumer, Consumer)):
        attributes = attribute.findall(code)
        assert len(attributes) >= 3
        fields = getattr(ours_of_it, "__dataclass_fields__", {})  # of each object, not of the class
        assert set(attributes) <= {*dir(ours_of_it), *fields}
