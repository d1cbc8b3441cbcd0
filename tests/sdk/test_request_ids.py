"""The ids by which a broker knows a request that is repeated."""

import os

from mq9.client.base import RequestIds


def test_no_id_is_made_twice():
    one, other = RequestIds(os.urandom), RequestIds(os.urandom)
    made = [ids.next() for ids in (one, other) for _ in range(1000)]
    assert len(set(made)) == 2000
    assert {len(each) for each in made} == {24}


def test_a_forked_child_makes_others():
    ids = RequestIds(os.urandom)
    ids.next()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids.next().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        made = told.read()
    assert len(made) == 24
    assert made != ids.next()
