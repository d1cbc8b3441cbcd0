"""A gateway's copy of the state."""

import pytest
from calls import call

from mq9.cluster.log import Logged
from mq9.cluster.records import LogRecord, encode
from mq9.cluster.replica import Replica, State
from mq9.engine.codec import encode_call
from mq9.protocol import requests
from mq9.storage.backend import TooLong


def record(sequence, *calls):
    encoded = tuple(map(encode_call, calls))
    return Logged(sequence, 1_700_000_000_000, encode(LogRecord("gateway", sequence, 0, encoded)))


@pytest.fixture
def replica(tmp_path):
    opened = Replica(tmp_path / "copy.db", None)
    yield opened
    opened.close()


@pytest.mark.parametrize("apart", [0, 2])
def test_a_record_that_is_not_the_next_one_is_refused_with_those_beside_it(replica, apart):
    replica.apply([record(1)])
    with pytest.raises(ValueError, match=f"record {1 + apart} does not come after 1"):
        replica.apply([record(1 + apart)])
    with pytest.raises(ValueError, match=f"record {2 + apart} does not come after 2"):
        replica.apply([record(2), record(2 + apart)])
    replica.apply([record(2)])
    assert replica.sequence == 2


def test_a_state_stays_as_it_is_whatever_is_applied_later(replica):
    replica.apply([record(1, call(requests.CreateMailbox))])
    first, then = State(replica.path), State(replica.path)
    expected = first.digest()
    replica.apply([record(2, call(requests.Send))])
    assert then.digest() == expected
    assert State(replica.path).digest() != expected


def test_a_state_that_was_left_is_digested_no_further(replica):
    sends = [call(requests.Send) for _ in range(500)]
    replica.apply([record(1, call(requests.CreateMailbox), *sends)])
    state = State(replica.path)
    state.leave()
    with pytest.raises(TooLong):
        state.digest()


class Timer:
    """Says each time that a little has passed."""

    seconds = 0.0

    def __call__(self):
        self.seconds += 0.15
        return self.seconds


@pytest.mark.parametrize(("span_ms", "together"), [(0, 1), (2_000, 2), (60_000, 4)])
def test_what_is_old_is_applied_in_long_transactions(span_ms, together, tmp_path):
    opened = Replica(tmp_path / "copy.db", None, timer=Timer())
    begun = record(1)
    records = [begun, *map(record, range(2, 10))]
    records.append(record(10)._replace(now_ms=begun.now_ms + span_ms))

    assert len(opened.apply(records)) == together
    opened.close()
