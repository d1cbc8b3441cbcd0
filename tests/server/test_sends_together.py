"""SENDs that come together over a socket: their order, their replies and their count."""

import orjson
import pytest
from raw import publish

from mq9.engine import send

FETCH = {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 0}}


@pytest.fixture
async def on_file(open_hosted, tmp_path):
    return await open_hosted(path=tmp_path / "mq9.db")


class Asker:
    """Publishes several requests by one write, and reads their replies in the order of these."""

    def __init__(self, raw):
        self._raw = raw
        self._asked = 0

    @classmethod
    async def connect(cls, hosted):
        raw = await hosted.raw()
        raw.send(b"SUB in.* 1\r\n")
        return cls(raw)

    async def ask(self, *asked):
        """Ask; ``asked`` are a verb with what its subject names, a payload, and headers."""
        begun = self._asked
        frames = []
        for verb, payload, *headers in asked:
            body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
            subject = f"$mq9.AI.{verb}"
            frames.append(publish(subject, body, headers=headers, reply=f"in.{self._asked}"))
            self._asked += 1
        self._raw.send(b"".join(frames))
        replies = {}
        while len(replies) < len(asked):
            kind, subject, _, *_, payload = await self._raw.frame()
            assert kind == "MSG"
            replies[subject] = orjson.loads(payload)
        return [replies[f"in.{number}"] for number in range(begun, self._asked)]


@pytest.fixture
async def asker(on_file):
    asker = await Asker.connect(on_file)
    await asker.ask(("MAILBOX.CREATE", {"name": "box"}), ("MAILBOX.CREATE", {"name": "other"}))
    return asker


@pytest.fixture
def steps(monkeypatch):
    """How many SENDs the engine was given in each step, and whether it stored them together."""
    steps = []
    store = send.send_together

    def store_and_note(db, batches, *args):
        stored = store(db, batches, *args)
        sends = sum(len(batch.request.sends) for _, batch in batches)
        steps.append((sends, stored is not None))
        return stored

    monkeypatch.setattr(send, "send_together", store_and_note)
    return steps


async def test_what_one_client_sends_is_stored_together(asker, steps):
    replies = await asker.ask(*(("MSG.SEND.box", b"%d" % number) for number in range(40)))
    assert replies == [{"error": "", "msg_id": number} for number in range(40)]
    assert sum(sends for sends, _ in steps) == 40
    assert len(steps) <= 3  # what was read from the socket by one call, as a rule all


async def test_what_many_clients_send_to_many_mailboxes_is_stored_together(on_file, asker, steps):
    askers = [await Asker.connect(on_file) for _ in range(4)]
    verbs = ("MSG.SEND.box", "MSG.SEND.other")
    for one in askers:
        await one.ask(*((verb, b"x") for verb in verbs))
    # Each change of the mailbox begins another batch.
    assert sum(sends for sends, _ in steps) == 8
    assert all(together for _, together in steps)


async def test_requests_of_one_client_take_effect_in_order(asker):
    sent, fetched, again, dropped, late = await asker.ask(
        ("MSG.SEND.box", b"first"),
        ("MSG.FETCH.box", FETCH),
        ("MSG.SEND.box", b"second"),
        ("MAILBOX.DROP.box", b""),
        ("MSG.SEND.box", b"third"),
    )
    assert (sent["msg_id"], again["msg_id"], dropped["error"]) == (0, 1, "")
    assert [one["payload"] for one in fetched["messages"]] == ["first"]
    assert late["code"] == "mailbox_not_found"


async def test_each_one_is_answered_by_itself_where_one_is_refused(asker, steps):
    replies = await asker.ask(
        ("MSG.SEND.box", b"1", ("mq9-id", "a")),
        ("MSG.SEND.box", b"1", ("mq9-id", "a")),
        ("MSG.SEND.box", b"2", ("mq9-id", "a")),
        ("MSG.SEND.box", b"3"),
        ("MSG.SEND.nowhere", b"4"),
        ("MSG.SEND.box", b"5", ("mq9-id", "b"), ("mq9-from", "ada")),
    )
    assert [one.get("msg_id", one.get("code")) for one in replies] == [
        *(0, 0, "id_conflict", 1, "mailbox_not_found", 2)
    ]
    assert False in [together for _, together in steps]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("mq9-priority", "loud")], "invalid_request"),
        ([("mq9-id", "a"), ("mq9-id", "b")], "invalid_request"),
        ([("mq9-id", "")], "invalid_request"),
        ([("mq9-encoding", "rot13")], "invalid_request"),
        ([("mq9-unread", "box")], "invalid_request"),
    ],
)
async def test_headers_that_are_refused_are_refused_for_their_message_only(asker, headers, code):
    replies = await asker.ask(
        ("MSG.SEND.box", b"1", ("mq9-id", "x")),
        ("MSG.SEND.box", b"2", *headers),
        ("MSG.SEND.box", b"3", ("mq9-id", "y")),
    )
    assert [one.get("msg_id", one.get("code")) for one in replies] == [0, code, 1]


async def test_all_that_headers_say_is_stored(on_file, asker):
    headers = [("mq9-from", "ada"), ("mq9-tags", "a,b"), ("Color", "grün"), ("MQ9-TTL", "60")]
    await asker.ask(
        ("MSG.SEND.box", b"1", *headers, ("mq9-id", "x")),
        ("MSG.SEND.box", b"2", ("mq9-id", "y"), *headers),
        ("MSG.SEND.box", b"3", ("mq9-key", "k"), ("mq9-id", "z")),
    )
    [found] = await asker.ask(("MSG.QUERY.box", {}))
    first, second, _ = found["messages"]
    assert first["from"] == second["from"] == "ada"
    assert first["tags"] == second["tags"] == ["a", "b"]
    assert first["headers"] == second["headers"] == {"color": "grün"}
    await on_file.clock.advance(61)
    [found] = await asker.ask(("MSG.QUERY.box", {}))
    assert [one["payload"] for one in found["messages"]] == ["3"]
