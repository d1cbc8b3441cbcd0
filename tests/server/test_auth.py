"""Who is let in, and as whom."""

import hashlib
import logging
import os

import pytest
from raw import connect, publish
from users_file import write_users
from waiting import until

from mq9 import Forbidden, Identity, InvalidRequest, Role, Unauthorized
from mq9.server.settings import ServerSettings
from mq9.server.users import Users

SECRET = "open sesame"
USERS = f"""
[[users]]
agent = "Ada"
user = "ada"
password = "lovelace"

[[users]]
agent = "Bob"
token = "sha256:{hashlib.sha256(b"bobs token").hexdigest()}"

[[users]]
token = "the operator's"

[[users]]
agent = "Boss"
role = "operator"
token = "the token of Boss"

[[users]]
role = "reader"
user = "wallboard"
password = "looks on"
"""


@pytest.fixture
def users_file(tmp_path):
    return write_users(tmp_path, USERS)


@pytest.fixture
async def guarded(open_hosted, users_file):
    """A server that knows Ada, Bob and an operator."""
    return await open_hosted(guard=Users.from_file(users_file))


@pytest.fixture
async def with_token(open_hosted):
    return await open_hosted(guard=Users.with_token(SECRET))


async def test_whoever_knows_the_token_is_let_in(with_token):
    assert (await with_token.stranger()).info["auth_required"] is True
    client = await with_token.client("open%20sesame@")
    assert await client.mailbox_create(name="inbox") == "inbox"
    assert (await with_token.nats(token=SECRET)).is_connected


@pytest.mark.parametrize("given", [{}, {"auth_token": "wrong"}, {"user": SECRET, "pass": "x"}])
async def test_whoever_does_not_is_refused_and_the_log_keeps_their_secret(
    with_token, caplog, given
):
    caplog.set_level(logging.DEBUG)
    client = await with_token.stranger()
    client.send(connect(**given) + publish("a", b"x") + b"PING\r\n")

    assert await client.ended() == [("-ERR", "'Authorization Violation'")]
    assert "refused" in caplog.text
    for record in caplog.records:
        told = f"{record.getMessage()} {record.__dict__}"
        assert "wrong" not in told
        assert SECRET not in told
    await until(lambda: "auth" in with_token.events)


async def test_our_client_says_that_its_credentials_were_refused(with_token):
    with pytest.raises(Unauthorized, match="refused the user or token") as refusal:
        await with_token.client("wr0ng@")
    assert "wr0ng" not in str(refusal.value)
    with pytest.raises(Unauthorized, match="wants a user or token"):
        await with_token.client()


async def test_who_says_nothing_is_let_go(with_token):
    silent, known = await with_token.stranger(), await with_token.raw(auth_token=SECRET)
    await with_token.timers.advance(5)

    assert await silent.ended() == [("-ERR", "'Authentication Timeout'")]
    known.send(b"PING\r\n")
    assert await known.frame() == ("PONG",)


async def test_a_user_is_the_sender_of_what_it_sends_whatever_it_says(guarded):
    ada = await guarded.client("ada:lovelace@")
    bob = await guarded.client("bobs%20token@")
    operator = await guarded.client("the%20operator's@")
    await bob.mailbox_create(name="bob")
    await ada.send("bob", "hello", sender="Bob")
    await operator.send("bob", "hello", sender="Mallory")

    told = [(m.sender, m.sender_verified) for m in await bob.query("bob")]
    assert told == [("Ada", True), ("Mallory", False)]


@pytest.mark.parametrize(
    "credentials",
    [
        {"user": "ada", "pass": "wrong"},
        {"user": "ada"},
        {"user": "ada", "pass": ""},
        {"user": "bob", "pass": "lovelace"},
        {"auth_token": "ada"},
        {"auth_token": hashlib.sha256(b"bobs token").hexdigest()},
        {},
    ],
)
async def test_wrong_credentials_are_refused_whoever_they_name(guarded, credentials):
    client = await guarded.stranger()
    client.send(connect(**credentials))
    assert await client.ended() == [("-ERR", "'Authorization Violation'")]


async def test_a_user_has_the_role_of_its_table(guarded):
    ada, operator, boss, wallboard = [
        await guarded.client(f"{credentials}@")
        for credentials in (
            "ada:lovelace",
            "the%20operator's",
            "the%20token%20of%20Boss",
            "wallboard:looks%20on",
        )
    ]

    assert [await one.identity() for one in (ada, operator, boss, wallboard)] == [
        Identity("Ada", Role.AGENT),
        Identity(None, Role.OPERATOR),
        Identity("Boss", Role.OPERATOR),
        Identity(None, Role.READER),
    ]
    box = await ada.mailbox_create(name="adas.box")
    await boss.send(box, "from Boss")
    for seen in (await ada.query(box), await wallboard.fetch(box, deliver="earliest")):
        assert [(one.sender, one.sender_verified) for one in seen] == [("Boss", True)]
    assert len((await wallboard.mailbox_list_own()).mailboxes) == 1
    for change in (
        wallboard.mailbox_create(),
        wallboard.fetch(box, group_name="g"),
        wallboard.send(box, "x"),
    ):
        with pytest.raises(Forbidden, match=r"you are a reader, .*; ask an operator"):
            await change


@pytest.mark.parametrize("stated", ["role = 'reader'", "role = 'operator'", ""])
async def test_a_role_is_enough_for_rights_to_be_told_apart(open_hosted, tmp_path, stated):
    path = write_users(tmp_path, f"[[users]]\ntoken = 'a'\n{stated}")
    hosted = await open_hosted(guard=Users.from_file(path))
    client = await hosted.client("a@")

    role = Role(stated[8:-1]) if stated else None  # without any, nobody is told apart
    assert await client.identity() == Identity(None, role)
    if role is Role.READER:
        with pytest.raises(Forbidden):
            await client.mailbox_create()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"\[\[users\]\]"),
        ("users = 3", r"\[\[users\]\]"),
        ("x = 1\n[[users]]\ntoken = 'a'", r"\[\[users\]\]"),
        ("[[users]]\nagent = 'A'", "user 1 .* needs one of these"),
        ("[[users]]\ntoken = 'hush'\nuser = 'a'", "needs one of these"),
        ("[[users]]\npassword = 'hush'", "needs one of these"),
        ("[[users]]\ntoken = ''", "token: a secret is"),
        ("[[users]]\ntoken = 3", "token: a secret is"),
        ("[[users]]\ntoken = 'sha256:hush'", "64 hexadecimal"),
        (
            "[[users]]\ntoken = 'scrypt:hush'",
            "token: scrypt: is for passwords; tokens take sha256:",
        ),
        (
            f"[[users]]\nuser = 'a'\npassword = 'sha256:{hashlib.sha256(b'hush').hexdigest()}'",
            "password: sha256: is for tokens, .* `mq9 hash-password` prints",
        ),
        ("[[users]]\nuser = 'a'\npassword = 'scrypt:hush'", "LOG2N:R:P:SALT:KEY"),
        (
            f"[[users]]\nuser = 'a'\npassword = 'scrypt:15:8:0:{'a' * 22}:{'b' * 43}'",
            "not a valid cost",
        ),
        (f"[[users]]\nuser = 'a'\npassword = 'scrypt:99:1:1:{'a' * 22}:{'b' * 43}'", "too high"),
        (f"[[users]]\nuser = 'a'\npassword = 'scrypt:15:8:3:{'a' * 22}:{'b' * 41}'", "base64"),
        ("[[users]]\nuser = ''\npassword = 'hush'", "user: '' is not a name"),
        ("[[users]]\ntoken = 'hush'\nagent = ''", "agent"),
        ("[[users]]\ntoken = 'hush'\nagnet = 'x'", "'agnet'"),
        ("[[users]]\nuser='a'\npassword='hush'\n[[users]]\nuser='a'\npassword='b'", "'a' twice"),
        ("[[users]]\ntoken='hush'\n[[users]]\ntoken='hush'", "user 1 .* has the token of another"),
        (
            "[[users]]\ntoken='hush'\n[[users]]\ntoken='sha256:"
            + hashlib.sha256(b"hush").hexdigest()
            + "'",
            "has the token of another",
        ),
        ("[[users]", "not TOML"),
        (
            "[[users]]\ntoken = 'hush'\nrole = 'root'",
            "user 1 .*: role: 'root' is not one of agent, operator, reader",
        ),
        ("[[users]]\ntoken = 'hush'\nrole = []", "role: .* is not one of"),
        ("[[users]]\ntoken = 'hush'\nrole = 'agent'", "role: an agent has a name"),
        (
            "[[users]]\ntoken = 'hush'\nagent = 'a'\nrole = 'operator'\nallow_send = ['b']",
            "allow_send: .* the role is operator",
        ),
        (
            "[[users]]\ntoken='hush'\nagent='a'\nrole='reader'\n[[users]]\ntoken='b'\nagent='a'",
            "two users are the agent 'a', and their roles differ",
        ),
    ],
)
def test_a_users_file_that_makes_no_sense_is_refused_without_telling_its_secrets(
    tmp_path, text, told
):
    path = tmp_path / "users.toml"
    path.write_text(text)

    with pytest.raises(InvalidRequest, match=told) as refusal:
        Users.from_file(path)
    assert "hush" not in str(refusal.value)


def test_a_users_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        Users.from_file(tmp_path / "missing.toml")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="not TOML"):
        Users.from_file(tmp_path / "binary")


@pytest.mark.skipif(os.name != "posix", reason="no such rights here")
def test_a_users_file_that_others_may_read_is_warned_of(users_file, caplog):
    users_file.chmod(0o644)
    Users.from_file(users_file)

    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104  # refused
def test_off_loopback_nobody_listens_without_asking_who_comes(host, users_file):
    with pytest.raises(InvalidRequest, match="--insecure"):
        ServerSettings(host=host)
    with pytest.raises(InvalidRequest, match="--insecure"):
        ServerSettings(admin_host=host)

    assert ServerSettings(host=host, auth_token=SECRET).guard().is_open is False
    assert ServerSettings(host=host, users=users_file).guard().is_open is False
    assert ServerSettings(host=host, admin_host=host, insecure=True).guard().is_open is True
