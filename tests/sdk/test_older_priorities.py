"""How priorities of older generations are stored, and in which order they come."""

import pytest

from mq9 import InvalidRequest, MessageHeaders, Priority
from mq9.protocol.older_priorities import STORED_AS, rank, stored_as

NO_HEADERS = MessageHeaders()
LOW = MessageHeaders({"Priority": "low"})


@pytest.mark.parametrize("priority", Priority)
def test_a_priority_of_the_current_protocol_is_stored_as_it_is(priority):
    assert stored_as(priority) == stored_as(priority.value) == (priority, ())


def test_high_is_critical_and_low_is_normal_with_a_header():
    assert stored_as("high") == (Priority.CRITICAL, ())
    assert stored_as("low") == stored_as("notify") == (Priority.NORMAL, (("priority", "low"),))


@pytest.mark.parametrize("name", ["High", "lowest", "", None, 1, ["low"]])
def test_what_is_no_priority_is_named(name):
    with pytest.raises(InvalidRequest, match=r"^priority: .* is not one of critical, high, urgent"):
        stored_as(name)


def test_the_names_are_in_the_order_of_delivery():
    ranks = [rank(priority, MessageHeaders(headers)) for priority, headers in STORED_AS.values()]
    assert ranks == sorted(ranks)
    assert list(dict.fromkeys(ranks)) == [0, 1, 2, 3]


@pytest.mark.parametrize("priority", [Priority.CRITICAL, Priority.URGENT])
def test_the_header_lowers_a_normal_message_only(priority):
    assert rank(Priority.NORMAL, LOW) > rank(Priority.NORMAL, NO_HEADERS)
    assert rank(priority, LOW) == rank(priority, NO_HEADERS)
    assert rank(Priority.NORMAL, MessageHeaders({"priority": "high"})) == rank(
        Priority.NORMAL, NO_HEADERS
    )
