"""How many places are remembered at which connections read on."""

from mq9.broker.official import LatestReads, Place

PLACE = Place("generation", (1, 1, 1))


def test_a_connection_forgets_the_mailbox_that_it_has_not_read_for_longest():
    reads = LatestReads(most_mailboxes=2)
    for address in ("a", "b", "a", "c"):
        reads.put("one", address, PLACE)
    reads.put("two", "b", PLACE)

    assert [reads.get("one", address) for address in "abc"] == [PLACE, None, PLACE]
    assert reads.get("two", "b") == PLACE
    assert len(reads) == 3


def test_of_too_many_connections_that_is_forgotten_which_has_not_read_for_longest():
    reads = LatestReads(most_connections=2)
    for connection in ("one", "two", "one", "three"):
        reads.put(connection, "a", PLACE)

    assert [reads.get(one, "a") for one in ("one", "two", "three")] == [PLACE, None, PLACE]


def test_a_connection_that_ends_takes_its_places_with_it():
    reads = LatestReads()
    reads.put("one", "a", PLACE)
    reads.forget("one")
    reads.forget("unknown")

    assert (len(reads), reads.get("one", "a")) == (0, None)
