"""Passwords that are hashed by scrypt, and what a flood of wrong ones does to others."""

import asyncio
import hashlib
import hmac
import os
import secrets
from concurrent.futures import Executor, Future
from typing import ClassVar

import pytest
from raw import RawClient, connect, publish
from waiting import until

from mq9 import Unauthorized
from mq9.server import passwords
from mq9.server.passwords import Guesses
from mq9.server.users import User, Users

_SALT = b"0123456789abcdef"
_LOG2N = 13  # a cost at which a few are compared soon, however busy the machine is
# Guesses: more than all processors compare while somebody else is served.
_MANY = 100 * max(2, os.cpu_count() or 1)


def made_by_scrypt(password, log2n, r, p, size):
    cost = {"n": 2**log2n, "r": r, "p": p, "maxmem": 2**30}
    key = hashlib.scrypt(password.encode(), salt=_SALT, dklen=size, **cost)
    return passwords.PasswordHash(log2n, r, p, _SALT, key)


def hashed(password):
    return str(made_by_scrypt(password, _LOG2N, 8, 1, 32))


@pytest.fixture(scope="module")
def known():
    """Who they are."""
    return [
        User(hashed("lovelace"), "ada", "Ada"),
        User(hashed("builder"), "bob", "bob"),
        User("a token", agent="carol"),
    ]


@pytest.fixture
async def guarded(open_hosted, known):
    return await open_hosted(guard=Users(known))


def test_a_hash_is_of_its_password_and_its_salt_alone():
    one = passwords.hash_password("pässword", _SALT)

    assert one.matches("pässword")
    assert not one.matches("password")
    assert passwords.parse("password", str(one)) == one
    assert passwords.hash_password("pässword", secrets.token_bytes(16)).key != one.key
    assert str(one).startswith("scrypt:15:8:3:")
    assert "pässword" not in str(one)
    with pytest.raises(ValueError, match="salt: 3 bytes"):
        passwords.hash_password("x", b"abc")


def test_a_hash_with_other_costs_says_so_itself():
    kept = made_by_scrypt("x", 10, 4, 1, 16)
    assert passwords.parse("password", str(kept)).matches("x")


async def test_the_right_password_lets_in_and_the_wrong_one_does_not(guarded):
    ada = await guarded.client("ada:lovelace@", agent="Ada")
    assert await ada.whoami() == "Ada"
    for wrong in ("ada:builder@", "nobody:lovelace@", f"ada:{hashed('lovelace')}@"):
        with pytest.raises(Unauthorized):
            await guarded.client(wrong.replace("=", "%3D"))


async def test_what_is_sent_before_the_client_is_let_in_waits_and_is_done(guarded):
    async with await RawClient.open(guarded.server.address) as ada:
        ada.send(
            connect(user="ada", **{"pass": "lovelace"})
            + b"SUB in.box 1\r\n"
            + publish("$mq9.AI.MAILBOX.CREATE", b'{"name":"early"}', reply="in.box")
            + b"PING\r\n"
        )
        frames = [await ada.frame(), await ada.frame()]
        assert ("PONG",) in frames
        [reply] = [frame for frame in frames if frame[0] == "MSG"]
        assert b'"mail_address":"early"' in reply[-1]


class TestAFloodOfWrongPasswords:
    """More of them than can be compared in a while."""

    @pytest.fixture
    async def flood(self, guarded):
        """Start one, and return the guessing clients."""
        guessing = []

        async def begin(count):
            for number in range(count):
                client = await RawClient.open(guarded.server.address)
                guarded.stack.push_async_callback(client.close)
                name = "ada" if number % 2 else f"nobody{number}"
                client.send(connect(user=name, **{"pass": f"guess{number}"}))
                guessing.append(asyncio.create_task(client.ended()))
            return guessing

        yield begin
        for task in guessing:
            task.cancel()
        await asyncio.gather(*guessing, return_exceptions=True)

    async def test_lets_others_work_and_those_with_tokens_and_known_passwords_in(
        self, guarded, flood
    ):
        ada = await guarded.client("ada:lovelace@")
        guessing = await flood(_MANY)

        await ada.mailbox_create(name="ada")
        for number in range(20):
            assert await ada.send("ada", b"x") == number
        again = await guarded.client("ada:lovelace@")
        assert len(await again.query("ada")) == 20
        assert await (await guarded.client("a%20token@")).whoami() == "carol"

        assert sum(not task.done() for task in guessing) > _MANY // 2, (
            "it took as long as the flood"
        )

    async def test_that_hangs_up_leaves_nothing_to_compare(self, guarded, flood):
        guessing = await flood(_MANY)
        await asyncio.sleep(0)
        for connection in guarded.server.clients:
            connection.finish("test")
        await asyncio.wait(guessing)

        assert await (await guarded.client("bob:builder@")).whoami() == "bob"
        assert guarded.server.connections == 1


async def test_every_token_is_compared_whichever_is_right(known, monkeypatch):
    guard = Users([*known, *(User(f"token {number}") for number in range(5))])
    compare, compared = hmac.compare_digest, []

    def spy(one, other):
        compared.append(other)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    for given in ("a token", "token 0", "token 4"):
        compared.clear()
        await guard.admit({"auth_token": given})
        assert len(compared) == 6
    compared.clear()
    with pytest.raises(Unauthorized):
        await guard.admit({"auth_token": "wrong"})
    assert len(compared) == 6


class Thread(Executor):
    """Runs what it is given when a test says so, in order."""

    made: ClassVar = {}

    def __init__(self, _count, name):
        self.made[name] = self
        self.waiting = []

    def submit(self, function, *arguments):
        done = Future()
        self.waiting.append((done, function, arguments))
        return done

    def run(self):
        """Run the first of what waits."""
        done, function, arguments = self.waiting.pop(0)
        if done.set_running_or_notify_cancel():
            done.set_result(function(*arguments))


class TestTurnsOfAddresses:
    """Comparisons are divided among addresses."""

    @pytest.fixture
    async def guesses(self):
        self.asked = []
        yield Guesses(Thread)
        for one in self.asked:
            one.cancel()
        await asyncio.gather(*self.asked, return_exceptions=True)

    @pytest.fixture
    def kept(self):
        return passwords.parse("password", str(made_by_scrypt("right", 4, 1, 1, 16)))

    async def ask(self, guesses, kept, password, address, name="ada"):
        task = asyncio.create_task(guesses.is_right(name, password, kept, address))
        self.asked.append(task)
        for _ in range(3):
            await asyncio.sleep(0)
        return task

    async def test_one_that_asks_thirty_times_is_behind_one_that_asks_once(self, guesses, kept):
        flood = [await self.ask(guesses, kept, "wrong", "10.0.0.1") for _ in range(30)]
        user = await self.ask(guesses, kept, "right", "10.0.0.2")
        threads = Thread.made["mq9-passwords"]
        assert len(threads.waiting) == 2

        threads.run()
        threads.run()

        assert await user is True
        assert sum(one.done() for one in flood) == 1

    async def test_one_that_was_admitted_before_waits_behind_no_stranger(self, guesses, kept):
        guesses.trust("10.0.0.2")
        flood = [await self.ask(guesses, kept, "wrong", f"10.0.1.{n}") for n in range(30)]
        user = await self.ask(guesses, kept, "right", "10.0.0.2")

        Thread.made["mq9-known-addresses"].run()

        assert await user is True
        assert not any(one.done() for one in flood)

    async def test_at_one_address_a_name_that_failed_is_behind_others(self, guesses, kept):
        threads = Thread.made["mq9-passwords"]
        first = await self.ask(guesses, kept, "wrong", "10.0.0.1")
        user = await self.ask(guesses, kept, "right", "10.0.0.1", "bob")
        flood = [await self.ask(guesses, kept, "wrong", "10.0.0.1") for _ in range(30)]
        threads.run()
        assert await first is False
        await asyncio.sleep(0)
        threads.run()

        assert await user is True
        assert not any(one.done() for one in flood)

    async def test_at_one_address_the_newest_is_first(self, guesses, kept):
        threads = Thread.made["mq9-passwords"]
        flood = [
            await self.ask(guesses, kept, "wrong", "10.0.0.1", f"nobody{n}") for n in range(30)
        ]
        user = await self.ask(guesses, kept, "right", "10.0.0.1", "bob")
        threads.run()
        await flood[0]
        await asyncio.sleep(0)
        threads.run()

        assert await user is True
        assert sum(one.done() for one in flood) == 1

    async def test_one_that_hangs_up_gives_its_turn_to_the_next(self, guesses, kept):
        first, second = [await self.ask(guesses, kept, "right", "10.0.0.1") for _ in range(2)]
        first.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        threads = Thread.made["mq9-passwords"]
        while threads.waiting:
            threads.run()

        assert await second is True


@pytest.mark.parametrize("name", ["plain", "nobody", "ada"])
async def test_every_wrong_password_is_compared_with_a_hash(known, name, monkeypatch):
    compared = []

    def matches(self, password):
        compared.append(password)
        return False

    monkeypatch.setattr(passwords.PasswordHash, "matches", matches)
    guard = Users([*known, User("plain secret", "plain", "Plain")])
    with pytest.raises(Unauthorized):
        await guard.admit({"user": name, "pass": "guess"}, "10.0.0.1")
    assert compared == ["guess"]


async def test_a_password_that_waits_for_its_turn_is_not_timed_out_like_silence(guarded):
    async with (
        await RawClient.open(guarded.server.address) as ada,
        await RawClient.open(guarded.server.address) as silent,
    ):
        [session] = [one.session for one in guarded.server.clients if one.number == 1]
        ada.send(connect(user="ada", **{"pass": "lovelace"}) + b"PING\r\n")
        await until(lambda: session.is_being_admitted or session.has_connected)
        await guarded.timers.advance(5)

        assert await silent.ended() == [("-ERR", "'Authentication Timeout'")]
        assert await ada.frame() == ("PONG",)
