"""Text of strangers stays text: no element, no script, no link of theirs, in no field."""

import pytest

from mq9.models import CONVERSATION
from tests.desk.screens import desk_of

_PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</title></textarea></pre><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--><iframe srcdoc='<script>alert(1)</script>'>",
]


async def fill(broker, payload):
    """Let a stranger put a text into every field that takes one."""
    async with broker.client() as client:
        for name in ("inbox", "inbox.dead", "ada"):
            await client.mailbox_create(name=name, desc=payload, public=True)
        await client.agent_register(
            {
                "name": f"agent {payload}"[:128],
                "mailbox": "inbox",
                "description": payload,
                "skills": [{"name": payload}],
            }
        )
        await client.agent_report({"mailbox": "inbox", "status": payload, payload: payload})
        fields = {
            "sender": payload,
            "key": payload,
            "correlation_id": payload,
            "tags": [payload.replace(",", ";")],
            "path": [payload.replace(",", ";")],
            "reply_to": "ada",
            "headers": {CONVERSATION: payload, "x-note": payload},
        }
        await client.send("inbox", payload, **fields)
        await client.send("inbox", {payload: [payload]}, **{**fields, "key": f"{payload} 2"})
        await client.send("inbox", payload, **{**fields, "key": f"{payload} 3"})
        error = {"type": "error", "code": payload, "reason": payload, "reference": payload}
        await client.send(
            "ada", error, **{**fields, "headers": {**fields["headers"], "error": payload}}
        )
        dead, held, _ = await client.fetch(
            "inbox", group_name=payload, consumer=payload, lease_ms=86_400_000
        )
        await client.move(dead, to="inbox.dead", reason=payload)
        assert held


_PAGES = [
    ("conversations", {}),
    ("conversations", {"agent": ...}),
    ("conversations/one", {"id": ...}),
    ("conversations/one", {"id": "/inbox/1"}),
    ("conversations/saved", {"id": ...}),
    ("conversations/write", {"answers": "inbox/1"}),
    ("conversations/write", {"forwards": "ada/0"}),
    ("conversations/write", {"to": ...}),
    ("agents", {}),
    ("agents", {"q": ...}),
    ("stuck", {}),
    ("stuck", {"kind": "dead", "mailbox": "inbox.dead"}),
    ("stuck", {"kind": ...}),
    ("stuck/settle", {"what": "stop", "item": "inbox/1/…", "back": ...}),
    ("stuck/settle", {"what": "redrive", "mailbox": "inbox.dead", "match": ...}),
    ("stuck/settle", {"what": ...}),
    ("mailboxes", {}),
    ("mailboxes", {"text": ...}),
    ("mailboxes/one", {"mailbox": "inbox"}),
    ("mailboxes/one", {"mailbox": "inbox", "group": ..., "key": ...}),
    ("mailboxes/one", {"mailbox": ...}),
    ("mailboxes/message", {"mailbox": "inbox", "id": "1"}),
    ("mailboxes/message", {"mailbox": "inbox.dead", "id": "0"}),
    ("mailboxes/message", {"mailbox": "ada", "id": "0"}),
    ("mailboxes/message", {"mailbox": "ada", "id": ...}),
    ("search", {"q": ...}),
]


@pytest.mark.parametrize("payload", _PAYLOADS)
async def test_no_text_of_a_stranger_becomes_markup(broker, payload):
    await fill(broker, payload)
    await broker.clock.advance(3_600)
    async with broker.client() as client, desk_of(client) as desk:
        for path, query in _PAGES:
            given = {name: payload if one is ... else one for name, one in query.items()}
            if "item" in given:
                given["item"] = f"inbox/1/{payload}"
            page = await desk.get(path, **given)
            assert page.status in {200, 400, 404}, path
            for tag, values in page.tags:
                assert not [name for name in values if name.startswith("on")], (path, tag, values)
                assert "srcdoc" not in values
                for name in ("href", "action", "src", "formaction"):
                    target = values.get(name)
                    is_ours = target is None or target.startswith(("/desk", "#", "?"))
                    assert is_ours, (path, tag, target)
            if path != "conversations/saved":
                assert "alert(1)" not in "".join(values.get("id") or "" for _, values in page.tags)
            elements = [tag for tag, _ in page.tags]
            assert elements.count("svg") <= (path == "agents"), path
            for tag in ("img", "iframe", "object", "xss"):
                assert tag not in elements, (path, tag)
            assert page.text.count("<script") <= 1, path  # the desk's own
            assert "49" not in page.seen or "{{ 7" in page.seen


async def test_what_turns_or_hides_text_is_spelled_out(client_with_hidden):
    async with desk_of(client_with_hidden) as desk:
        for path, query in [
            ("conversations", {}),
            ("conversations/one", {"id": "/inbox/0"}),
            ("mailboxes/one", {"mailbox": "inbox"}),
            ("mailboxes/message", {"mailbox": "inbox", "id": 0}),
        ]:
            page = await desk.ok(path, **query)
            assert "\u202e" not in page.text, path
            assert "<U+202E>" in page.seen, path


@pytest.fixture
async def client_with_hidden(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "pay \u202eeve")
        yield client
