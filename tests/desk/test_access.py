"""Access to a desk, and the requests that it takes."""

import pytest

from mq9.desk.app import Desk
from mq9.desk.people import Person
from mq9.errors import Unauthorized
from tests.desk.conftest import LETTER
from tests.desk.desks import ORIGIN, browser, forms, text_of

APPROVE = "/desk/questions/answer"


async def test_a_link_lets_one_browser_in_once(desk):
    token = desk.desk.link.renew()
    async with browser(desk.desk) as other, browser(desk.desk) as third:
        await other.get(f"/desk/enter?link={token}", 303)
        await other.get("/desk")
        await third.get(f"/desk/enter?link={token}", 403)
        assert "closed to this browser" in await third.get("/desk", 403)


async def test_a_link_is_good_for_ten_minutes(broker, desk):
    token = desk.desk.link.renew()
    await broker.clock.advance(600)
    async with browser(desk.desk) as other:
        await other.get(f"/desk/enter?link={token}", 403)


async def test_a_newer_link_ends_the_one_before(desk):
    token = desk.desk.link.renew()
    desk.desk.link.renew()
    async with browser(desk.desk) as other:
        await other.get(f"/desk/enter?link={token}", 403)


@pytest.mark.parametrize("cookie", ["", "forged", "a" * 43, "\x7f"])
async def test_a_forged_cookie_opens_nothing(desk, cookie):
    async with browser(desk.desk) as other:
        other.client.cookies.set("mq9-desk-9095", cookie)
        await other.get("/desk", 403)


async def test_the_cookie_is_for_this_site_and_no_script(desk):
    async with browser(desk.desk) as other:
        answer = await other.client.get(f"/desk/enter?link={desk.desk.link.renew()}")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("mq9-desk-9095=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/desk" in cookie


async def test_a_session_ends_after_twelve_idle_hours(broker, desk):
    await broker.clock.advance(12 * 3600)
    await desk.get("/desk", 403)


async def test_whoever_leaves_is_out(desk):
    fields = next(one for one in forms(await desk.get("/desk")) if one.action == "/desk/logout")
    await desk.client.post("/desk/logout", data=fields.fields, headers={"origin": ORIGIN})
    await desk.get("/desk", 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_of_another_page_does_nothing(desk, ask, answers, headers):
    number = await ask("Send it?", LETTER)
    await desk.send("/desk", APPROVE, msg_id=number, word="approve", then=403, headers=headers)
    assert await answers() == []


async def test_a_form_without_its_token_does_nothing(desk, ask, answers):
    number = await ask("Send it?", LETTER)
    for csrf in ("", "forged"):
        fields = {"csrf": csrf, "msg_id": number, "word": "approve", "back": "/desk"}
        await desk.post(APPROVE, fields, then=403)
    assert await answers() == []


async def test_the_token_of_another_session_is_none(desk, ask, answers):
    number = await ask("Send it?", LETTER)
    async with browser(desk.desk) as other:
        await other.enter()
        csrf = forms(await other.get("/desk"))[1].fields["csrf"]
        fields = {"csrf": csrf, "msg_id": number, "word": "approve", "back": "/desk"}
        await desk.post(APPROVE, fields, then=403)
    assert await answers() == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9095", "127.0.0.1.evil.example"])
async def test_a_page_cannot_call_it_by_a_name_of_its_own(desk, host):
    await desk.get("/desk", 421, host=host)


@pytest.mark.parametrize("host", ["localhost:9095", "[::1]:9095", "127.0.0.1"])
async def test_names_of_this_machine_are_its_own(desk, host):
    answer = await desk.client.get("/desk", headers={"host": host})
    assert answer.status_code in {200, 403}  # the cookie is named by the port


async def test_every_answer_forbids_scripts_of_others(desk):
    for path in ("/desk", "/desk/static/desk.js", "/desk/nowhere", "/desk/login"):
        answer = await desk.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_form_returns_to_the_desk_only(desk, ask):
    number = await ask("Send it?", LETTER)
    page = await desk.get("/desk")
    fields = next(one for one in forms(page) if one.action == APPROVE).fields
    for back in ("//evil.example/x", "http://evil.example/", "/deskevil", "/\\evil.example"):
        answer = await desk.client.post(
            "/desk/questions/again",
            data={**fields, "back": back, "msg_id": number},
            headers={"origin": ORIGIN},
        )
        assert answer.headers["location"] == "/desk"


async def test_a_form_that_is_too_long_is_refused(desk):
    answer = await desk.client.post(
        APPROVE,
        content=b"",
        headers={"origin": ORIGIN, "content-length": str(5 * 1024 * 1024)},
    )
    assert answer.status_code == 400


class Users:
    """Admits two people by their passwords."""

    has_login = True

    def __init__(self, broker):
        self.broker = broker

    async def log_in(self, credentials, _address):
        name = credentials.get("user")
        if credentials != {"user": name, "pass": f"{name}'s"}:
            raise Unauthorized("wrong")
        return Person.named(name, is_verified=True, reads_only=name == "reader")

    def connect(self, person):
        return self.broker.client(agent=person.name)


@pytest.fixture
async def guarded(broker):
    desk = Desk(Users(broker), broker.clock)
    async with desk.clients.running(), browser(desk) as one:
        yield one


async def log_in(one, name):
    return await one.post("/desk/login", {"user": name, "secret": f"{name}'s"})


async def test_people_log_in_by_user_and_password(guarded):
    await guarded.get("/desk", 303)
    page = await guarded.post("/desk/login", {"user": "ada", "secret": "no"}, then=403)
    assert "Wrong user, password or token." in page
    await log_in(guarded, "ada")
    assert "in ada" in text_of(await guarded.get("/desk"))


async def test_no_link_opens_a_desk_with_users(guarded):
    await guarded.get(f"/desk/enter?link={guarded.desk.link.renew()}", 403)


async def test_a_login_from_another_page_does_nothing(guarded):
    headers = {"origin": "http://evil.example"}
    fields = {"user": "ada", "secret": "ada's"}
    await guarded.post("/desk/login", fields, then=403, headers=headers)
    await guarded.get("/desk", 303)


async def test_another_persons_question_is_neither_seen_nor_answered(guarded, client, ask, answers):
    number = await ask("For the boss alone", LETTER)
    await log_in(guarded, "ada")
    await client.mailbox_create(name="ada")
    assert "For the boss alone" not in await guarded.get("/desk")
    await guarded.get(f"/desk/questions/{number}", 404)
    await ask("For Ada", LETTER, to="ada", expires=None)
    csrf = forms(await guarded.get("/desk"))[1].fields["csrf"]
    for more in ({}, {"mail_address": "boss", "mailbox": "boss"}):
        fields = {"csrf": csrf, "msg_id": "7", "word": "approve", "back": "/desk", **more}
        assert "message not found" in await guarded.post(APPROVE, fields)
    assert await answers() == []


async def test_a_reader_sees_no_forms_and_changes_nothing(guarded, client, ask, answers):
    await client.mailbox_create(name="reader")
    number = await ask("May I?", LETTER, to="reader")
    await log_in(guarded, "reader")
    page = await guarded.get("/desk")
    assert "May I?" in page
    assert [one.action for one in forms(page)] == ["/desk/search", "/desk/logout"]
    csrf = forms(page)[1].fields["csrf"]
    fields = {"csrf": csrf, "msg_id": number, "word": "approve", "back": "/desk"}
    assert "a reader changes nothing" in await guarded.post(APPROVE, fields)
    assert await answers() == []
