"""Bodies as text, and replies below what they answer."""

import pytest

from mq9 import Mq9Client
from mq9.desk.showing import body_of, link, threaded
from mq9.models import ConversationMessage, Message
from tests.desk.screens import desk_of


def test_json_gets_line_breaks_and_nothing_else_changes():
    body = body_of(b'{"a":1.10,"a":12345678901234567890123,"b":[{},[],{"x\\"}":"q, [1]"}]}')
    assert body.kind == "JSON"
    assert body.text.split("\n") == [
        "{",
        '  "a": 1.10,',
        '  "a": 12345678901234567890123,',
        '  "b": [',
        "    {},",
        "    [],",
        "    {",
        '      "x\\"}": "q, [1]"',
        "    }",
        "  ]",
        "}",
    ]


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b"", "empty", ""),
        (b"12", "text", "12"),
        (b'{"a": ', "text", '{"a": '),
        (b"[" * 1_000 + b"]" * 1_000, "text", "[" * 1_000 + "]" * 1_000),
        (b"\xff\x00", "binary", "/wA="),
        ("a\u202eb\x1b".encode(), "text", "a<U+202E>b<U+001B>"),
        (b"a\r\nb", "text", "a\nb"),
    ],
)
def test_any_other_body_stays_as_it_is_and_what_does_not_print_is_spelled_out(payload, kind, text):
    body = body_of(payload)
    assert (body.kind, body.text, body.size) == (kind, text, len(payload))


def test_a_long_body_is_folded_and_a_very_long_one_is_cut():
    assert not body_of(b"x" * 1_200).is_long
    assert body_of(b"x" * 1_201).is_long
    assert body_of(b"x\n" * 16).is_long
    cut = body_of(b"x" * 1_000_000)
    assert (cut.is_cut, len(cut.text)) == (True, 20_000)
    assert len(cut.begin) == 101
    assert body_of(b"\xff" * 1_000_000).is_cut


def entry(msg_id, answers=None):
    message = Message(msg_id=msg_id, payload=b"", create_time=0, mail_address="inbox")
    above = None if answers is None else ("inbox", answers)
    return ConversationMessage(message=message, in_reply_to=above)


def test_replies_are_below_what_they_answer_and_the_rest_in_the_order_of_time():
    rows = threaded([entry(0), entry(1), entry(2, 0), entry(3, 2), entry(4, 99), entry(5, 0)])
    assert [(one.entry.message.msg_id, one.depth) for one in rows] == [
        (0, 0),
        (2, 1),
        (3, 2),
        (5, 1),
        (1, 0),
        (4, 0),
    ]
    assert [one.answered for one in rows] == [True, True, False, False, False, False]


def test_a_circle_of_replies_loses_no_message():
    rows = threaded([entry(0, 1), entry(1, 0), entry(2, 2)])
    assert sorted(one.entry.message.msg_id for one in rows) == [0, 1, 2]
    deep = threaded([entry(0), *(entry(number, number - 1) for number in range(1, 2_000))])
    assert len(deep) == 2_000
    assert max(one.depth for one in deep) == 5


def test_a_link_leaves_out_what_is_absent_and_escapes_the_rest():
    assert link("/desk", a=None, b="") == "/desk"
    assert link("/desk", id="a&b=c#d", page=2) == "/desk?id=a%26b%3Dc%23d&page=2"


async def test_the_screens_work_on_a_file(tmp_path):
    async with Mq9Client(f"sqlite:///{tmp_path.as_posix()}/mail.db") as client:
        for name in ("inbox", "inbox.dead"):
            await client.mailbox_create(name=name)
        await client.send("inbox", "tea", sender="ada", correlation_id="q-1")
        [message] = await client.fetch("inbox", group_name="inbox", consumer="w/1")
        await client.move(message, to="inbox.dead", reason="ValueError")
        async with desk_of(client) as desk:
            page = await desk.ok("conversations/one", id="q-1")
            assert "dead letter from inbox: ValueError" in page.seen
            await desk.post("stuck/settle", what="redrive", item="inbox.dead/0")
            assert "inbox 2" in (await desk.ok("mailboxes")).seen
            for path in ("conversations", "agents", "stuck", "search?q=tea"):
                await desk.ok(path)
