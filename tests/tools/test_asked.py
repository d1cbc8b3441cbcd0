"""Which answers an agent recognises by what it asked."""

import pytest

from mq9.models import Message
from mq9.operations import conversations
from mq9.operations.conversations import Conversations


def _answer(correlation_id):
    return Message(msg_id=0, payload=b"", create_time=0, correlation_id=correlation_id)


@pytest.fixture
def asked(monkeypatch):
    """Conversations that remember three questions."""
    monkeypatch.setattr(conversations, "_MOST_ASKED", 3)
    return Conversations()


def test_the_oldest_questions_are_forgotten_first(asked):
    for one in "abcd":
        asked.sent("worker", one)
    assert [asked.is_answer(_answer(one)) for one in "abcd"] == [False, True, True, True]


def test_a_question_that_is_sent_again_keeps_its_place(asked):
    for one in "abcad":
        asked.sent("worker", one)
    assert [asked.is_answer(_answer(one)) for one in "abcd"] == [False, True, True, True]


def test_a_message_without_a_correlation_id_is_no_question(asked):
    asked.sent("worker", None)
    assert not asked.is_answer(_answer(None))
