"""A broker that answers nonsense is said to have done so, whatever the nonsense is."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mq9.errors import BadReply, Mq9Error
from mq9.protocol import replies
from mq9.protocol.verbs import VERBS

FIELDS = (
    *("messages", "waiting", "leased", "agents", "matches", "mailboxes", "unread", "group"),
    *("message", "moved", "pending", "headers", "tags", "path", "extended", "groups"),
    *("msg_id", "payload", "encoding", "priority", "state", "group_name", "mail_address"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=12,
)
READERS = [
    lambda reply: replies.messages_of(replies.decode_fetch(reply), "inbox"),
    lambda reply: replies.messages_of(replies.decode_fetch({"messages": [reply]}), "inbox"),
    replies.decode_unread,
    *(verb.outcome for verb in VERBS.values()),
    lambda reply: replies.whole(reply, "msg_id"),
    lambda reply: replies.ids(reply, "extended"),
]


@settings(suppress_health_check=[HealthCheck.too_slow])  # beside other work
@given(reply=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_a_reply_is_read_or_refused_as_a_whole(reply):
    for read in READERS:
        with suppress(BadReply):
            read(reply)


@pytest.mark.parametrize(
    "reply",
    [
        {"waiting": {"leased": [{"consumer": "c"}]}},
        {"waiting": {"leased": [7]}},
        {"messages": [{"payload": "eA=="}]},
        {"messages": [{"msg_id": 1, "payload": "x"}]},
        {"messages": 7},
    ],
)
def test_a_fetch_reply_without_what_it_needs_is_a_bad_reply(reply):
    with pytest.raises(BadReply, match="the broker's reply cannot be read"):
        replies.messages_of(replies.decode_fetch(reply), "inbox")


@pytest.mark.parametrize(
    "reply",
    [
        {"mail_address": "a", "group": {"group_name": "g"}},
        {"mail_address": "a", "message": {"state": "stored"}},
        {"mail_address": "a", "message": {"msg_id": 1, "state": "stored", "groups": [{}]}},
        {},
    ],
)
def test_a_status_without_what_it_needs_is_a_bad_reply(reply):
    with pytest.raises(BadReply):
        replies.decode_status(reply)


@given(st.binary(max_size=40))
def test_bytes_are_a_reply_or_an_error_of_ours(data):
    with suppress(Mq9Error):
        assert replies.decode(data)["error"] == orjson.loads(data).get("error")
