"""Requests as objects: made of what they say, checked, and never changed."""

import copy
import dataclasses

import pytest

from mq9 import InvalidRequest
from mq9.models import Priority
from mq9.protocol.requests import Ack, Fetch, Send

SAID = {"key": "k", "tags": ("a", "b"), "ttl": 9}


def test_a_field_that_was_not_given_is_the_default():
    send = Send(**SAID)
    assert (send.priority, send.delay, send.headers) == (Priority.NORMAL, None, ())
    assert (send.key, send.tags, send.ttl) == ("k", ("a", "b"), 9)


def test_what_is_given_as_the_default_is_as_what_is_not_given():
    given = Send(**SAID, priority="normal", delay=None, details=False)
    assert given == Send(**SAID)
    assert hash(given) == hash(Send(**SAID))
    assert given.encode_headers() == Send(**SAID).encode_headers()
    assert given != Send(**SAID, delay=1)


def test_one_request_knows_nothing_of_another():
    first, second = Send(key="first"), Send(ttl=5)
    assert (first.ttl, second.key) == (None, None)


def test_a_copy_is_checked_and_the_same():
    send = Send(**SAID)
    assert dataclasses.replace(send) == send
    assert dataclasses.replace(send, ttl=7).ttl == 7
    assert copy.deepcopy(send) == send
    with pytest.raises(InvalidRequest, match="ttl"):
        dataclasses.replace(send, ttl=0)


def test_a_request_stays_as_it_was_made():
    send = Send(**SAID)
    for name in ("key", "delay", "more"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(send, name, 1)


def test_no_request_has_a_field_that_it_does_not_declare():
    with pytest.raises(TypeError, match=r"Send\.__init__\(\) got an unexpected .*'colour'"):
        Send(colour="red")


@pytest.mark.parametrize("value", [{}, {"group_name": None}, {"group_name": ""}])
def test_what_must_be_given_is_missed(value):
    with pytest.raises(InvalidRequest, match="group_name: must be given"):
        Ack(msg_id=1, **value)


def test_fields_that_do_not_go_together_are_refused():
    with pytest.raises(InvalidRequest, match="ttl: 5 s is not more"):
        Send(ttl=5, delay=5)
    with pytest.raises(InvalidRequest, match="min_msgs"):
        Fetch(group_name="g", min_msgs=3, num_msgs=2)


def test_headers_and_body_say_what_differs_from_the_default():
    assert Send(id="x", priority="urgent").encode_headers() == [
        ("mq9-id", "x"),
        ("mq9-priority", "urgent"),
    ]
    assert Ack(group_name="g", msg_id=1, individual=False).encode() == (
        b'{"group_name":"g","msg_id":1}'
    )
