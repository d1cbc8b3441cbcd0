"""A gateway's copy of the state."""

import pytest

from mq9.cluster.log import Logged
from mq9.cluster.records import LogRecord, encode
from mq9.cluster.replica import Replica


def record(sequence):
    return Logged(sequence, 1_700_000_000_000, encode(LogRecord("gateway", sequence, 0)))


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
