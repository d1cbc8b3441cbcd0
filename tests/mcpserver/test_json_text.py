"""One entry of a JSON document is changed, and nothing else."""

import json
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.hosts import json_text
from mq9 import InvalidRequest

OURS = {"command": "/bin/mq9-mcp", "args": ["--agent", "ünï"]}
PATH = ("mcpServers", "mq9")


STRANGE = (
    '{ "x" : 1E400,\n\n   "\\u0061":"\\/ \u2028" ,"mcpServers"\n:{"o": [1.0,\n2]\n }, "y":-0 }'
)


@pytest.mark.parametrize(
    ("before", "after", "comes_back"),
    [
        ("", '{\n  "mcpServers": {\n    "mq9": {\n      "command": "x"\n    }\n  }\n}\n', False),
        ('{"b":1,"mcpServers":{}}', '{"b":1,"mcpServers":{"mq9": {"command": "x"}}}', True),
        ('{"b":1}', '{"b":1, "mcpServers": {"mq9": {"command": "x"}}}', False),
        (STRANGE, STRANGE.replace("2]\n }", '2], "mq9": {"command": "x"}\n }'), True),
    ],
    ids=["new", "line", "on a line", "strange"],
)
def test_spelling_is_kept_to_the_letter(before, after, comes_back):
    assert json_text.put(before, PATH, {"command": "x"}) == after
    if comes_back:
        assert json_text.drop(after, PATH) == before
    assert json_text.find('{"mcpServers": {"m\\u0071\\u0039": 7}}', PATH) == "7"


@pytest.mark.parametrize("blank", ["", " ", "\n", "\r\n\t "])
def test_blanks_are_an_empty_document(blank):
    assert json.loads(json_text.put(blank, PATH, OURS)) == {"mcpServers": {"mq9": OURS}}
    assert json_text.find(blank, PATH) is None
    assert json_text.drop(blank, PATH) == blank
    assert json_text.is_empty(blank)


@pytest.mark.parametrize("unit", ["  ", "    ", "\t", " "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_is_new_is_indented_as_the_document_is(unit, line_end):
    def written(document):
        return json.dumps(document, indent=unit, ensure_ascii=False).replace("\n", line_end)

    servers = {"other": {"command": "o", "args": []}}
    before = {"theme": "dünkel", "mcpServers": servers, "z": 1}
    after = {**before, "mcpServers": {**servers, "mq9": OURS}}
    assert json_text.put(written(before), PATH, OURS) == written(after)
    assert json_text.drop(written(after), PATH) == written(before)
    assert json_text.put(written({"z": 1}), PATH, OURS) == written(
        {"z": 1, "mcpServers": {"mq9": OURS}}
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"s": {"a": 1, "mq9": 2, "b": 3}}', '{"s": {"a": 1, "b": 3}}'),
        ('{"s": {"mq9": 2, "b": 3}}', '{"s": {"b": 3}}'),
        ('{"s": {"a": 1, "mq9": 2}}', '{"s": {"a": 1}}'),
        ('{"s": {"mq9": 2}}', '{"s": {}}'),
        ('{"s": {"a": 1}}', '{"s": {"a": 1}}'),
        ('{"t": {"mq9": 1}}', '{"t": {"mq9": 1}}'),
        # What is said of others stays.
        ('{"s": {\n // a\n "mq9": 2, // b\n "c": 3}}', '{"s": {\n // a\n // b\n "c": 3}}'),
        ('{"s": {\n // a\n "mq9": 2 // b\n}}', '{"s": {\n // a // b\n}}'),
        ('{"s": {"a": 1, // why\n "mq9": 2}}', '{"s": {"a": 1 // why\n}}'),
        ('{"s": {"a": 1, // why\n "mq9": 2, "b": 3}}', '{"s": {"a": 1, // why "b": 3}}'),
    ],
)
def test_an_entry_is_dropped_wherever_it_stands(before, after):
    assert json_text.drop(before, ("s", "mq9")) == after


def test_a_value_is_replaced_in_its_place_and_put_back_as_it_stood():
    before = '{\n  "mcpServers": {\n    "mq9": {"command":"old" },\n    "b": 1\n  }\n}'
    after = json_text.put(before, PATH, {"command": "new"})
    assert after == before.replace('{"command":"old" }', '{\n      "command": "new"\n    }')
    old = json_text.find(before, PATH)
    assert old is not None
    assert json_text.put(after, PATH, old) == before


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{\n  // why\n  "a" 1}', "not JSON: line 3, column 7"),
        ('{"a": 1,,}', "not JSON"),
        ("{,}", "not JSON"),
        ('{"a": [,]}', "not JSON"),
        ('{"a":,}', "not JSON"),
        ('{"a": 1} /* open', "not JSON"),
        ('{"a": "open // }', "not JSON"),
        ("// nothing else\n[]", "not an object as a whole"),
        ("{'a': 1}", "not JSON"),
        ('{"a": NaN}', "not JSON: NaN"),
        ('{"a": -Infinity}', "not JSON: -Infinity"),
        ('{"a": "\t"}', "not JSON"),
        ('{"a": 1} {}', "not JSON"),
        ('{"a": 1', "not JSON"),
        ("[]", "not an object as a whole"),
        ("null", "not an object as a whole"),
        ('{"mcpServers": []}', "'mcpServers' is not an object"),
        ('{"mcpServers": null}', "'mcpServers' is not an object"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"mcpServers": {"x": {"b": 1, "\\u0062": 2}}}', "'b' stands twice"),
        pytest.param('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "more than", id="deep"),
        pytest.param('{"a": ' + "1" * 10_000 + "}", "more than can be read", id="long number"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, wrong):
    for change in (partial(json_text.put, value=OURS), json_text.drop, json_text.find):
        with pytest.raises(InvalidRequest, match=wrong):
            change(text, PATH)


names = st.text(max_size=4) | st.sampled_from(["mq9", "mcpServers"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(names, values, max_size=4).flatmap(
    lambda document: st.dictionaries(names, values, max_size=3).map(
        lambda servers: {**document, "mcpServers": servers}
    )
)


@given(
    document=documents,
    unit=st.sampled_from([None, 2, 4, "\t"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    in_ascii=st.booleans(),
)
def test_any_document_holds_the_entry_then_and_comes_back(document, unit, line_end, in_ascii):
    text = json.dumps(document, indent=unit, ensure_ascii=in_ascii).replace("\n", line_end)
    old = json_text.find(text, PATH)
    after = json_text.put(text, PATH, OURS)
    assert json.loads(after) == {**document, "mcpServers": {**document["mcpServers"], "mq9": OURS}}
    back = json_text.drop(after, PATH) if old is None else json_text.put(after, PATH, old)
    assert back == text


COMMENTED = """\
// of the whole
{
  "z": "// no comment, /* nor this */", // of z
  "mcpServers": {
    // of other
    "other": {"command": "x"}, // kept
    /* two
       lines */
  },
}
"""


def test_comments_and_trailing_commas_stay():
    after = json_text.put(COMMENTED, PATH, {"command": "y"})
    assert after == COMMENTED.replace(
        "// kept\n", '// kept\n    "mq9": {\n      "command": "y"\n    },\n'
    )
    assert json_text.parse(after) == {
        "z": "// no comment, /* nor this */",
        "mcpServers": {"other": {"command": "x"}, "mq9": {"command": "y"}},
    }
    assert json_text.drop(after, PATH) == COMMENTED
    assert not json_text.is_strict(COMMENTED)
    assert json_text.is_strict(json.dumps({"z": "// no, /* comment */ ,}"}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "a": 1 // why\n}', '{\n  "a": 1, // why\n  "mq9": 2\n}'),
        ('{\n  "a": 1 /* b\n c */\n}', '{\n  "a": 1,\n  "mq9": 2 /* b\n c */\n}'),
        ("{\n  // none yet\n}", '{\n  // none yet\n  "mq9": 2\n}'),
        ('{"a": 1,}', '{"a": 1, "mq9": 2,}'),
        ('{"a": [1,], "b": {"c": 1,},}', '{"a": [1,], "b": {"c": 1,}, "mq9": 2,}'),
        ('{ /* a */ "a": 1 }', '{ /* a */ "a": 1, "mq9": 2 }'),
        ('/* a\n */ {\n "a": 1\n}', '/* a\n */ {\n "a": 1,\n "mq9": 2\n}'),
    ],
)
def test_a_member_is_added_behind_the_comment_of_the_one_before(before, after):
    assert json_text.put(before, ("mq9",), "2") == after
    assert json_text.drop(after, ("mq9",)) == before


@pytest.mark.parametrize("text", ["// mine", "/* mine */\n\n", "\n// mine\r\n"])
def test_a_document_of_comments_is_filled_below_them(text):
    after = json_text.put(text, PATH, {})
    assert after.startswith(text.rstrip() + "\n{")
    assert json_text.parse(after) == {"mcpServers": {"mq9": {}}}
    assert json_text.find(text, PATH) is None
    assert not json_text.is_empty(text)


@given(
    document=documents,
    unit=st.sampled_from([None, 2]),
    places=st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["//{}\n", "/*{}*/"]))),
    commas=st.booleans(),
)
def test_whatever_is_commented_the_entry_comes_and_goes_and_no_comment_is_lost(
    document, unit, places, commas
):
    document["mcpServers"].pop("mq9", None)
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|[^"]', json.dumps(document, indent=unit))
    if commas:
        tokens = [
            f",{one}" if one in "}]" and "".join(tokens[:at]).rstrip()[-1:] not in "{[" else one
            for at, one in enumerate(tokens)
        ]
    comments = []
    for number, (place, form) in enumerate(places):
        comments.append(form.format(f" c{number},"))
        at = place % (len(tokens) + 1)
        while at < len(tokens) and re.fullmatch(r"[\w.+-]", tokens[at]):
            at += 1  # not within a number or a name
        tokens.insert(at, comments[-1])
    text = "".join(tokens)
    assert json_text.parse(text) == document
    after = json_text.put(text, PATH, OURS)
    assert json_text.parse(after) == {
        **document,
        "mcpServers": {**document["mcpServers"], "mq9": OURS},
    }
    back = json_text.drop(after, PATH)
    assert json_text.parse(back) == document
    for comment in comments:
        assert comment in after
        assert comment in back
