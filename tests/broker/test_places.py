"""How many places are remembered at which connections read on."""

from mq9.broker.official import LatestReads, Place

PLACE = Place("generation", (1, 1, 1))


def test_the_places_that_were_not_used_for_longest_are_forgotten():
    reads = LatestReads(most_connections=2, most_mailboxes=2)
    for connection, address in (
        ("one", "a"),
        ("one", "b"),
        ("one", "a"),
        ("one", "c"),
        ("two", "b"),
    ):
        reads.put(connection, address, PLACE)

    assert [reads.get("one", address) for address in "abc"] == [PLACE, None, PLACE]
    assert reads.get("two", "b") == PLACE

    reads.put("one", "a", PLACE)
    reads.put("three", "a", PLACE)
    assert [reads.get("one", "a"), reads.get("two", "b")] == [PLACE, None]


def test_a_connection_that_ends_takes_its_places_with_it():
    reads = LatestReads()
    reads.put("one", "a", PLACE)
    reads.forget("one")
    reads.forget("unknown")

    assert reads.get("one", "a") is None
