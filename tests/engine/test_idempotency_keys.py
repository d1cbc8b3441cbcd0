"""The stored form of idempotency ids."""

import functools
import itertools
import random

import pytest
from calls import call

from mq9.engine import send
from mq9.protocol import requests

from .engine_on_file import EngineOnFile


def test_no_two_ids_are_stored_as_the_same():
    texts = ["", "a", "b", "1234567", "12345678", "x12345678", "y12345678", "ü2345678", "x1234567y"]
    texts += [text + "." * 40 for text in texts] + ["." * 40 + text for text in texts[1:]]
    keys = {send.stored_id(sender, id_) for sender, id_ in itertools.product(texts, texts)}
    assert len(keys) == len(texts) ** 2


@pytest.mark.parametrize("id_", ["x", "x" * 256, "\U0001f600" * 256])
def test_a_long_id_is_as_short_as_any(id_):
    assert len(send.stored_id("ada" * 80, id_)) <= 41


def test_ids_that_are_numbered_are_written_together(tmp_path):
    dice = random.Random(1)

    def send(engine, ids):
        engine.apply(*(call(requests.Send, id=id_) for id_ in ids))

    numbers = itertools.count()
    makers = {
        "numbered": lambda: f"0123456789abcdef{next(numbers):08x}",
        "random": lambda: f"{dice.getrandbits(96):024x}",
    }
    written = {}
    for name, make in makers.items():
        engine = EngineOnFile(tmp_path / name)
        send(engine, [make() for _ in range(10_000)])
        written[name] = engine.written(functools.partial(send, engine, [make() for _ in range(64)]))
        engine.connection.close()
    assert written["numbered"] < written["random"] / 2
