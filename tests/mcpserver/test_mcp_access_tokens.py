"""Agents are authenticated by access tokens of an authorization server."""

import asyncio
import base64
import json
import logging
import time
from contextlib import asynccontextmanager, suppress

import httpx2
import jwt
import pytest
from calling import refused
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hosting import GENUINE
from hypothesis import given
from hypothesis import strategies as st
from issuing import EC, ED, HOUR, RESOURCE, RSA, issuing, jwk
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from over_http import OLDER, Wire, by_hand, connected, served
from programs import McpServing
from users_file import write_users
from waiting import until

from mcp_server.http.access_tokens import AccessTokens, CannotVerify, agent_named, check_apart
from mcp_server.http.authentication import KnownTokens
from mq9 import InvalidRequest, Mq9Client
from mq9 import address as addresses
from mq9.server.users import User, Users

METADATA = "https://mail.example/.well-known/oauth-protected-resource/mcp"
ANOTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def issuer():
    async with issuing() as issuer:
        yield issuer


@asynccontextmanager
async def guarded(still_broker, issuer, *, users=(), origins=(), **given):
    """Serve whom the issuer names; the URL. The keys have been fetched."""
    tokens = AccessTokens(issuer.url, RESOURCE, still_broker.clock, **given)
    others = {"verifier": KnownTokens(Users(users))} if users else {}
    async with served(still_broker, authorization=tokens, origins=origins, **others) as url:
        with suppress(CannotVerify):
            await tokens.verify_token(issuer.token())  # which waits for the keys
        yield url


def asking(url, token):
    return Wire(url, **({} if token is None else {"Authorization": f"Bearer {token}"})).ask()


async def status(url, token):
    return (await asking(url, token)).status_code


async def test_a_token_says_who_asks(still_broker, issuer, variant):
    tokens = AccessTokens(issuer.url, RESOURCE, still_broker.clock)
    async with (
        served(still_broker, authorization=tokens, stateless=variant.stateless) as url,
        connected(url, variant.era, issuer.token("ada")) as ada,
        connected(url, variant.era, issuer.token("Bob@example.com")) as bob,
    ):
        assert (await ada.do("whoami"))["mail_address"] == "oauth.ada"
        address = (await bob.do("whoami"))["mail_address"]
        assert address == agent_named("Bob@example.com")
        await ada.do("send_message", to=address, content="x")
        [message] = (await bob.do("fetch_messages", wait_seconds=0))["messages"]
        assert message["untrusted_envelope"]["from"] == "oauth.ada"
        assert message["sender"]["name_is"] == GENUINE
        assert "not oauth.ada" in await bob.fail("query_messages", mail_address="oauth.ada")


SIGNED = [
    *((RSA, "rsa", f"{kind}{bits}") for kind in ("RS", "PS") for bits in (256, 384, 512)),
    *((EC, "ec", "ES256"), (ED, "ed", "EdDSA")),
]


async def test_asymmetric_signatures_are_accepted(still_broker, issuer):
    async with guarded(still_broker, issuer) as url:
        for key, kid, algorithm in SIGNED:
            for named in (kid, None):
                token = issuer.token(key=key, kid=named, algorithm=algorithm)
                assert await status(url, token) == 200, algorithm


def in_base64(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(issuer, key, **header):
    """Sign by HMAC with a key that everybody knows."""
    return issuer.token(key=key, kid="rsa", algorithm="HS256", headers=header)


def tampered(issuer):
    head, _, signature = issuer.token("ada").split(".")
    claims = jwt.decode(issuer.token("eve"), options={"verify_signature": False})
    return ".".join([head, in_base64(claims), signature])


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
NUMBER = RSA.public_key().public_numbers().n.to_bytes(256)
BAD = {
    "of another issuer": lambda one: one.token(iss="https://evil.example"),
    "of an issuer in another spelling": lambda one: one.token(iss=f"{one.url}/"),
    "of no issuer": lambda one: one.token(iss=None),
    "for another resource": lambda one: one.token(aud="https://other.example/mcp"),
    "for a part of the resource": lambda one: one.token(aud="https://mail.example"),
    "for other resources": lambda one: one.token(aud=["https://a.example", f"{RESOURCE}/x"]),
    "for no resource": lambda one: one.token(aud=None),
    "expired": lambda one: one.token(exp=int(time.time()) - HOUR),
    "that never expires": lambda one: one.token(exp=None),
    "not yet valid": lambda one: one.token(nbf=int(time.time()) + HOUR),
    "from the future": lambda one: one.token(iat=int(time.time()) + HOUR),
    "of nobody": lambda one: one.token(sub=None),
    "of an empty name": lambda one: one.token(""),
    "of a long name": lambda one: one.token("x" * 1001),
    "unsigned": lambda one: one.token(key=None, algorithm="none"),
    "unsigned, spelled otherwise": lambda one: ".".join(
        [in_base64({"alg": "nOnE", "kid": "ec"}), one.token().split(".")[1], ""]
    ),
    "by HMAC with the public key's number": lambda one: forged(one, NUMBER),
    "by HMAC with a published secret": lambda one: one.token(
        key=b"a secret that is far too public to be one", kid="oct", algorithm="HS256"
    ),
    "by another key of that name": lambda one: one.token(key=ANOTHER),
    "by a key that it brings": lambda one: one.token(
        key=ANOTHER, headers={"jwk": jwk(ANOTHER, kid="ec"), "jku": "http://127.0.0.1:1/keys"}
    ),
    "by an unknown key": lambda one: one.token(key=ANOTHER, kid="other"),
    "by a key for encryption": lambda one: one.token(key=ANOTHER, kid="enc"),
    "by a key for another algorithm": lambda one: one.token(
        key=RSA, kid="only RS512", algorithm="RS256"
    ),
    "by a short key": lambda one: one.token(key=SHORT, kid="short", algorithm="RS256"),
    "by a key of another kind": lambda one: one.token(key=RSA, kid="ec", algorithm="RS256"),
    "with what must be understood": lambda one: one.token(headers={"crit": ["x"], "x": 1}),
    "changed": tampered,
    "cut": lambda one: one.token()[:-10],
    "of more than 16 KiB": lambda one: one.token(more="x" * 16 * 1024),
    "no JWT": lambda _: "a.b.c",
    "no algorithm": lambda _: f"{in_base64({})}.{in_base64({})}.",
    "an algorithm that is a list": lambda _: f"{in_base64({'alg': ['ES256']})}.{in_base64({})}.",
    "an id that is a list": lambda _: (
        f"{in_base64({'alg': 'ES256', 'kid': ['ec']})}.{in_base64({})}."
    ),
    "a deep header": lambda _: f"{in_base64(b'[' * 9_000)}.{in_base64({})}.",
}
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505  # which is refused


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")  # which is what is tested
async def test_a_token_that_is_not_good_here_is_refused_and_none_is_logged(
    still_broker, issuer, caplog
):
    caplog.set_level(logging.DEBUG)
    issuer.keys += [
        jwk(ANOTHER, kid="enc", use="enc"),
        jwk(RSA, kid="only RS512", alg="RS512"),
        jwk(SHORT, kid="short"),
        {"kty": "oct", "kid": "oct", "k": in_base64(b"a secret that is far too public to be one")},
        *({"kty": "EC", "crv": []}, {"kty": "EC", "kid": 7}, {"kty": []}, {}, "no key"),
    ]
    async with guarded(still_broker, issuer) as url:
        assert await status(url, issuer.token()) == 200
        assert await status(url, issuer.token(aud=["https://other.example", RESOURCE])) == 200
        for what, make in BAD.items():
            bad = make(issuer)
            told = await asking(url, bad)
            assert told.status_code == 401, what
            assert bad not in caplog.text, what
            assert told.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
        head, claims, _ = forged(issuer, NUMBER).split(".")
        by_pem = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signature = in_base64(by_pem.sign(f"{head}.{claims}".encode(), PEM))
        assert await status(url, f"{head}.{claims}.{signature}") == 401
        good = issuer.token()
        assert await status(url, good) == 200
        assert "a token is refused: Signature has expired" in caplog.text
        assert good not in caplog.text


async def test_who_has_no_token_is_told_where_they_come_from(still_broker, issuer):
    page = "https://app.example"
    async with guarded(still_broker, issuer, origins=[page]) as url, by_hand() as http:
        for era in ("2026-07-28", OLDER):
            told = await Wire(url, era).ask()
            assert told.status_code == 401
            assert f'resource_metadata="{METADATA}"' in told.headers["WWW-Authenticate"]
        well_known = url.replace("/mcp", "/.well-known/oauth-protected-resource")
        for at in (f"{well_known}/mcp", well_known):
            told = await http.get(at, headers={"Origin": page})
            assert told.json() == {
                "resource": RESOURCE,
                "authorization_servers": [issuer.url],
                "bearer_methods_supported": ["header"],
                "resource_name": "mq9 mailbox",
            }
            assert told.headers["Access-Control-Allow-Origin"] == "*"
        assert (await http.get(f"{well_known}/other")).status_code == 404
    async with served(still_broker) as url, by_hand() as http:
        well_known = url.replace("/mcp", "/.well-known/oauth-protected-resource")
        assert (await http.get(well_known)).status_code == 404


async def test_a_token_has_to_be_good_for_what_is_needed(still_broker, issuer):
    operator = User("the-token-of-cy", agent="cy")
    scopes = ["mail:read", "mail:send"]
    async with (
        guarded(still_broker, issuer, users=[operator], scopes=scopes) as url,
        by_hand() as http,
    ):
        for good in (
            {"scope": "mail:send x mail:read"},
            {"scp": scopes},
            {"scope": "mail:send", "scp": "mail:read"},
        ):
            assert await status(url, issuer.token(**good)) == 200
        for bad in ({}, {"scope": "mail:read"}, {"scope": "mail:readmail:send"}, {"scp": [7, {}]}):
            told = await asking(url, issuer.token(**bad))
            challenge = told.headers["WWW-Authenticate"]
            assert told.status_code == 403
            assert challenge.startswith('Bearer error="insufficient_scope"')
            assert f'resource_metadata="{METADATA}"' in challenge
            assert challenge.endswith('scope="mail:read mail:send"')
        told = await asking(url, None)
        assert told.headers["WWW-Authenticate"].endswith('scope="mail:read mail:send"')
        assert await status(url, "the-token-of-cy") == 200  # which is good for everything
        well_known = url.replace("/mcp", "/.well-known/oauth-protected-resource")
        assert (await http.get(well_known)).json()["scopes_supported"] == scopes


class Stored:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


@pytest.mark.programs
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_finds_the_authorization_server_by_itself(tmp_path, issuer, mode):
    options = ("--authorization-server", issuer.url, "--scope", "mail")
    with McpServing(tmp_path, *options, "--server", "memory://x") as server:
        provider = ClientCredentialsOAuthProvider(
            *(server.url, Stored(), "me", "the secret"), issuer=issuer.url
        )
        async with (
            httpx2.AsyncClient(auth=provider, trust_env=False) as http,
            Client(streamable_http_client(server.url, http_client=http), mode=mode) as client,
        ):
            told = await client.call_tool("mq9_whoami", {})
            assert told.structured_content["mail_address"] == "oauth.desk"


async def test_while_the_keys_cannot_be_had_nobody_is_said_to_be_wrong(
    still_broker, issuer, caplog
):
    issuer.is_down = True
    async with guarded(still_broker, issuer) as url:
        assert "answered 500" in caplog.text
        told = await asking(url, issuer.token())
        assert (told.status_code, told.headers["Retry-After"]) == (503, "5")
        assert await status(url, "no JWT") == 401
        issuer.is_down = False
        assert await status(url, issuer.token()) == 503  # it is not asked at once again
        assert issuer.fetches == 0
        await still_broker.clock.advance(5)
        assert await status(url, issuer.token()) == 200
        assert issuer.fetches == 1


async def test_who_has_a_known_key_waits_for_nobody(still_broker, issuer):
    async with guarded(still_broker, issuer) as url:

        async def ask(*kids):
            """Ask by keys that are not known, while the authorization server does not answer."""
            issuer.held.clear()
            await still_broker.clock.advance(30)
            tokens = [issuer.token(key=ANOTHER, kid=kid) for kid in kids]
            waiting = [asyncio.create_task(asking(url, token)) for token in tokens]
            before = issuer.fetches
            await until(lambda: issuer.fetches == before + 1)
            assert await status(url, issuer.token()) == 200
            return waiting

        waiting = await ask("new", "unknown")
        issuer.keys.append(jwk(ANOTHER, kid="new"))
        issuer.held.set()
        assert [(await one).status_code for one in waiting] == [200, 401]
        assert issuer.fetches == 2

        [waiting] = await ask("newer")
        await still_broker.clock.advance(5)  # it is given up
        assert (await waiting).status_code == 503
        assert await status(url, issuer.token()) == 200
        issuer.held.set()


async def test_one_who_is_cancelled_ends_nothing_for_the_others(still_broker, issuer):
    tokens = AccessTokens(issuer.url, RESOURCE, still_broker.clock)
    issuer.held.clear()
    async with tokens.running():
        await until(lambda: issuer.fetches == 1)
        first, second = [
            asyncio.create_task(tokens.verify_token(issuer.token(name))) for name in ("ada", "bob")
        ]
        await asyncio.sleep(0)  # both wait for the keys
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        issuer.held.set()
        assert (await second).subject == "oauth.bob"
        assert issuer.fetches == 1


async def test_for_unknown_keys_it_is_asked_seldom(still_broker, issuer):
    async with guarded(still_broker, issuer) as url:
        for seconds, fetches in ((29, 1), (1, 2), (29, 2), (1, 3)):
            await still_broker.clock.advance(seconds)
            for number in range(5):
                bad = issuer.token(key=ANOTHER, kid=f"unknown {number}")
                assert await status(url, bad) == 401
            assert issuer.fetches == fetches


async def test_keys_are_fetched_hourly_and_used_for_a_day_where_that_fails(still_broker, issuer):
    async with guarded(still_broker, issuer) as url:
        await still_broker.clock.advance(HOUR)
        assert (await status(url, issuer.token()), issuer.fetches) == (200, 1)
        issuer.keys = [jwk(ANOTHER, kid="ec")]
        await still_broker.clock.advance(1)
        assert await status(url, issuer.token()) == 200  # by the old key, for nobody waits
        await until(lambda: issuer.fetches == 2)
        good = issuer.token(key=ANOTHER)
        while await status(url, good) != 200:  # the new ones are there any moment
            pass
        assert await status(url, issuer.token()) == 401
        issuer.is_down = True
        await still_broker.clock.advance(24 * HOUR)
        assert await status(url, good) == 200
        await still_broker.clock.advance(1)
        assert await status(url, good) == 503


@pytest.mark.parametrize(
    ("metadata", "keys", "said"),
    [
        ({"issuer": "https://evil.example"}, None, "issuer: 'https://evil.example' in "),
        ({"jwks_uri": "http://keys.example/keys"}, None, "jwks_uri: 'http://keys.example/keys' is"),
        ({"jwks_uri": None}, None, "jwks_uri: None is not an https:// URL"),
        ({"more": "x" * 300_000}, None, "more than 262144 bytes"),
        ({}, [], "keys: none is"),
        ({}, {"ec": 1}, "keys: it is not a list"),
        ({}, [{}] * 101, "keys: it is not a list of at most 100"),
    ],
)
async def test_what_an_authorization_server_must_not_say(
    still_broker, issuer, caplog, metadata, keys, said
):
    issuer.metadata = metadata
    issuer.keys = issuer.keys if keys is None else keys
    async with guarded(still_broker, issuer) as url:
        assert said in caplog.text
        assert await status(url, issuer.token()) == 503


async def test_another_claim_may_name_the_agent(still_broker, issuer):
    async with guarded(still_broker, issuer, claim="agent") as url:
        token = issuer.token("somebody", agent="planner")
        async with connected(url, token=token) as planner:
            assert (await planner.do("whoami"))["name"] == "oauth.planner"
        assert await status(url, issuer.token("somebody")) == 401
        assert await status(url, issuer.token("somebody", agent=7)) == 401


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        ("ada", "oauth.ada"),
        ("a.b.7", "oauth.a.b.7"),
        ("ADA", "oauthx.ada."),
        ("ada ", "oauthx.ada."),
        ("auth0|5f7c", "oauthx.auth0.5f7c."),
        ("ada@example.com", "oauthx.ada.example.com."),
        ("翻译", "oauthx."),
        ("x" * 200, f"oauthx.{'x' * 80}."),
    ],
)
def test_the_name_of_an_agent_is_made_of_the_claim(value, begins):
    name = agent_named(value)
    assert name.startswith(begins)
    assert len(name) == len(begins) + (32 if begins.startswith("oauthx") else 0)


@given(st.lists(st.text(min_size=1, max_size=1000), min_size=2, max_size=2, unique=True))
def test_two_values_are_two_agents_with_two_mailboxes(values):
    names = [agent_named(one) for one in values]
    assert names == [addresses.slug(one) for one in names]
    assert len(set(names)) == 2
    for name in names:
        with pytest.raises(InvalidRequest, match="begins as agents of the authorization server"):
            check_apart([name])


def test_no_agent_of_the_file_is_named_so(tmp_path):
    check_apart(["ada", "oauth2.ada", "My OAuth"])
    for name in ("oauth.ada", "OAuth Ada", "-oauthx/ada", "oauth"):
        users = write_users(tmp_path, f'users = [{{agent = "{name}", token = "x"}}]\n')
        told = refused(
            "--http", "--tokens", str(users), "--authorization-server", "https://as.example"
        )
        assert f"tokens: {name!r} begins as agents of the authorization server do" in told


@pytest.mark.programs
async def test_both_kinds_of_tokens_may_be_used_on_one_server(tmp_path, issuer):
    users = write_users(tmp_path, 'users = [{agent = "cy", token = "the-token-of-cy"}]\n')
    options = ("--tokens", str(users), "--authorization-server", issuer.url)
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    async with Mq9Client(url) as before:
        await before.mailbox_create(name="oauth.ada")  # which is hers, whoever made it
    with McpServing(tmp_path, *options, "--resource", RESOURCE, "--server", url) as server:
        async with (
            connected(server.url, token=issuer.token()) as ada,
            connected(server.url, token="the-token-of-cy") as cy,
        ):
            await ada.do("whoami")
            assert "belongs to another agent" in await ada.fail("create_mailbox", name="cy")
            assert "already exists" in await cy.fail("create_mailbox", name="oauth.ada")
            for one, to, address, name in (
                (ada, cy, "cy", "oauth.ada"),
                (cy, ada, "oauth.ada", "cy"),
            ):
                await one.do("send_message", to=address, content="x")
                [message] = (await to.do("fetch_messages"))["messages"]
                assert message["untrusted_envelope"]["from"] == name
                assert message["sender"]["name_is"] == GENUINE
        async with by_hand() as http:
            host = {"Host": "mail.example", "Authorization": f"Bearer {issuer.token()}"}
            assert (await http.get(server.url, headers=host)).status_code == 400  # not 421


AS = ("--http", "--authorization-server", "https://as.example")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (AS[1:], "authorization_server: it is for --http"),
        (["--http", "--resource", RESOURCE], "resource: it is for --authorization-server"),
        (["--http", "--agent-claim", "x"], "agent_claim: it is for --authorization-server"),
        (["--http", "--scope", "x"], "scope: it is for --authorization-server"),
        ((*AS, "--agent", "desk"), "agent: 'desk' is given, but the token says who asks"),
        ((*AS, "--verifier", "x:y"), "verifier: "),
        ((*AS, "--host", "::"), "resource: access tokens name this server; say by which"),
        ((*AS, "--resource", "http://mail.example/mcp"), "resource: 'http://mail.example/mcp' is"),
        ((*AS, "--resource", "https://mail.example/mcp?x"), "resource: "),
        ((*AS, "--resource", "https://Mail.example/x"), "resource: 'https://Mail.example/x' is"),
        (("--http", "--authorization-server", "as.example"), "authorization_server: 'as.example'"),
        (("--http", "--authorization-server", "http://10.0.0.1"), "authorization_server: "),
        ((*AS, "--scope", "a b"), "scope: 'a b' is not a scope"),
        ((*AS, "--scope", 'a"b'), "scope: 'a\"b' is not a scope"),
        ((*AS, "--agent-claim", "a\nb"), "agent_claim: 'a\\nb' is not the name"),
        ((*AS, "--server", "nats://127.0.0.1:1"), "authorization_server: a server knows agents"),
    ],
)
def test_what_cannot_be_served_is_refused(options, complaint):
    assert complaint in refused(*options, *(("--port", "0") if "--http" in options else ()))
